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
