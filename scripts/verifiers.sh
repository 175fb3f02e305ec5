#!/usr/bin/env bash
# Installs what tests need of PyPI and npm, in the pinned versions, into the folder named: the Standard Webhooks
# verifiers, an ffmpeg that speaks Enhanced RTMP (70 MB), yt-dlp, and what drives Chromium. Does nothing where they are
# there already.
set -euo pipefail
pins="$(cd "$(dirname "$0")/../tests/it/verify" && pwd)"
folder=${1:?the folder to install into}

mkdir -p "$folder"
stamp=$(cat "$pins/requirements.txt" "$pins/package-lock.json" | sha256sum | cut -d' ' -f1)
[[ -x $folder/venv/bin/python && $(cat "$folder/stamp" 2>/dev/null || true) == "$stamp" ]] && exit 0

echo "setup: installing the webhook verifiers of PyPI and npm, ffmpeg and yt-dlp of PyPI, and playwright-core, into $folder"
rm -rf "$folder/stamp" "$folder/venv" "$folder/node_modules"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins/requirements.txt"
cp "$pins/package.json" "$pins/package-lock.json" "$folder/"
(cd "$folder" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
# Chromium is the system's, where it has one.
if [[ ! -x /usr/bin/chromium && -z ${CREST_CHROMIUM:-} ]]; then
    (cd "$folder" && PLAYWRIGHT_BROWSERS_PATH="$folder/browsers" npx playwright-core install --with-deps chromium)
fi
echo "$stamp" >"$folder/stamp"
