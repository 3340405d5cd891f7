'use strict';
/**
 * `npm run check`: everything that can be judged without running the product, all at once. Prints one line per check when it has ended, and the output
 * of those that fail; exit code 1 when any failed.
 */
const { execFile } = require('node:child_process');
const path = require('node:path');

const root = path.join(__dirname, '..');
const folders = ['proto', 'common', 'host-adapter', 'plugin', 'worker', 'mover', 'lab', 'test'];
const checks = [
  ['format', 'prettier', ['--check', '--log-level', 'warn', ...folders, 'scripts', '*.ts', '*.json', '*.mjs', '*.cjs']],
  ['lint', 'eslint', ['--max-warnings', '0', '--cache', '--cache-location', '.cache/eslint', ...folders]],
  ['import rules', 'depcruise', ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', ...folders]],
  ['dead exports', 'knip', ['--no-progress', '--no-config-hints']],
  ['contract lint', 'buf', ['lint', 'proto']],
  ['documented errors', 'node', ['scripts/document-errors.js', '--check']],
  ['documented events', 'node', ['scripts/document-events.js']],
  ['contract compatibility', 'buf', ['breaking', 'proto', '--against', 'proto/baseline.binpb']],
];

/** Resolves with whether it was good. */
function check([name, command, args]) {
  const started = Date.now();
  const options = { cwd: root, maxBuffer: 64 * 1024 * 1024 };
  return new Promise((resolve) => {
    execFile(path.join(root, 'node_modules', '.bin', command), args, options, (error, stdout, stderr) => {
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      console.log(`${error === null ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
      // A program that could not be started has said nothing itself.
      if (error !== null) process.stdout.write(stdout + stderr || `${error.message}\n`);
      resolve(error === null);
    });
  });
}

Promise.all(checks.map(check)).then((results) => process.exit(results.every(Boolean) ? 0 : 1));
