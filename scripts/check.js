'use strict';
/**
 * `npm run check`: everything that can be judged without running the product. Prints one line per check, and the output of those that
 * fail; exit code 1 when any failed.
 */
const { spawnSync } = require('node:child_process');
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

let failed = 0;
for (const [name, command, args] of checks) {
  const started = Date.now();
  const result = spawnSync(path.join(root, 'node_modules', '.bin', command), args, { cwd: root, encoding: 'utf8', shell: false });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const good = result.status === 0;
  console.log(`${good ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  if (!good) {
    failed += 1;
    process.stdout.write(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? `${result.error.message}\n` : ''}`);
  }
}
process.exit(failed === 0 ? 0 : 1);
