#!/usr/bin/env bash
# Holds dashboards/portcullis.json to the types that Grafana publishes (@grafana/schema): every name and every value of every
# panel, nothing that they do not know. Needs npm; leaves nothing behind.
#
#   deploy/grafana/check/check.sh [DASHBOARD.json]
#
# Exit status 3: the packages could not be had, and nothing was checked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dashboard=$(realpath "${1:-$here/../dashboards/portcullis.json}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/{package.json,package-lock.json,types.ts} "$work"
cd "$work"
npm ci --no-audit --no-fund --ignore-scripts --prefer-offline >npm.log 2>&1 || { cat npm.log >&2; exit 3; }
# The compiler looks for names that a type does not know only where a literal meets that type: each panel is a literal of its own.
node - "$dashboard" >dashboard.ts <<'JS'
const { panels, ...rest } = JSON.parse(require('fs').readFileSync(process.argv[2], 'utf8'));
console.log("import type { Dashboard, Panels } from './types';");
console.log(`export const dashboard: Dashboard = ${JSON.stringify(rest, null, 1)};`);
for (const [at, panel] of panels.entries()) {
  console.log(`// ${JSON.stringify(panel.title)}`);
  console.log(`export const panel${at}: Panels[${JSON.stringify(panel.type)}] = ${JSON.stringify(panel, null, 1)};`);
}
JS
# Their own files are taken as they are.
node_modules/.bin/tsc --noEmit --strict --skipLibCheck --target es2022 --module esnext --moduleResolution node --ignoreDeprecations 5.0 dashboard.ts
echo "$(grep -c '^export const panel' dashboard.ts) panels are as @grafana/schema $(node -p "require('@grafana/schema/package.json').version") has them"
