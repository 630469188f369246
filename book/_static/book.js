// Paper is light: print in the light theme, whatever the screen shows.
addEventListener("beforeprint", () => {
  const { dataset } = document.documentElement;
  dataset.screenTheme = dataset.theme;
  dataset.theme = "light";
});
addEventListener("afterprint", () => {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.screenTheme;
});

// The theme writes these two into attributes, which the pages' policy forbids.
const onClick = (selector, act) => {
  for (const button of document.querySelectorAll(selector))
    button.addEventListener("click", () => act());
};
onClick(".btn-download-pdf-button", () => print());
onClick(".btn-fullscreen-button", () => toggleFullScreen());
