#!/usr/bin/env bash
# On GitHub: opens a pull request with what a workflow has changed in the tree.
#     bash tools/pull_request.sh BRANCH TITLE BODY
set -euo pipefail
if git diff --quiet; then
    echo "Nothing changed."
    exit 0
fi
git config user.name "github-actions[bot]"
git config user.email "github-actions[bot]@users.noreply.github.com"
git switch --create "$1"
git commit --all --message "$2"
gh auth setup-git
git push origin "$1"
gh pr create --head "$1" --title "$2" --body "$3"
