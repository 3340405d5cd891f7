'use strict';
/**
 * Generates TypeScript types from the contracts into proto/gen (not committed), with the same options as the run-time loader.
 * Skips the work when nothing changed.
 */
const { execFileSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const out = path.join(root, 'proto', 'gen');
const protos = fs
  .readdirSync(path.join(root, 'proto'), { recursive: true })
  .filter((name) => name.endsWith('.proto'))
  .sort();

const hash = createHash('sha256');
for (const name of protos) hash.update(name).update(fs.readFileSync(path.join(root, 'proto', name)));
hash.update(fs.readFileSync(__filename));
const stamp = path.join(out, '.stamp');
const wanted = hash.digest('hex');
if (fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === wanted) process.exit(0);

fs.rmSync(out, { recursive: true, force: true });
const options = ['--longs=String', '--enums=String', '--defaults', '--arrays', '--oneofs', '--grpcLib=@grpc/grpc-js'];
const generator = path.join(root, 'node_modules', '.bin', 'proto-loader-gen-types');
execFileSync(generator, [...options, '--includeDirs=proto', `--outDir=${out}`, ...protos], {
  cwd: root,
  stdio: ['ignore', 'ignore', 'inherit'],
});
fs.writeFileSync(stamp, wanted);
