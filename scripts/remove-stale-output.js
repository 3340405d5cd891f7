/**
 * Removes compiled files whose source is gone. tsc leaves them, and one of them hides the folder that took its place (`schemas.js` before
 * `schemas/index.js`), or is run as a test. Run before each build.
 */
'use strict';
const fs = require('node:fs');
const path = require('node:path');

const root = path.resolve(__dirname, '..');
const output = path.join(root, 'dist');

function sweep(folder) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) {
      sweep(file);
      if (fs.readdirSync(file).length === 0) fs.rmdirSync(file);
      continue;
    }
    const source = /^(.+?)(\.d)?\.(js|ts)(\.map)?$/.exec(path.relative(output, file));
    if (source && !fs.existsSync(path.join(root, `${source[1]}.ts`))) fs.rmSync(file);
  }
}

if (fs.existsSync(output)) sweep(output);
