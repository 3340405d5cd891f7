'use strict';
/**
 * Writes docs/errors.md from the declared errors of all processes (compiled output). `--check` compares instead, exit code 1 when the page
 * is out of date: a code without a page, or a page without a code, must not land.
 */
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const dist = path.join(root, 'dist');
const folders = ['common', 'mover', 'worker', 'plugin', 'host-adapter'];
const owner = new Map();
const { declaredErrors } = require(path.join(dist, 'common/errors/define-errors.js'));

for (const folder of folders) {
  if (!fs.existsSync(path.join(dist, folder))) continue;
  const files = fs
    .readdirSync(path.join(dist, folder), { recursive: true })
    .filter((name) => name.endsWith('.js') && !name.endsWith('.test.js') && !name.includes('testing'))
    .filter((name) => fs.readFileSync(path.join(dist, folder, name), 'utf8').includes('defineErrors)('));
  for (const file of files.sort()) {
    require(path.join(dist, folder, file));
    for (const code of declaredErrors().keys()) if (!owner.has(code)) owner.set(code, folder);
  }
}

const advice = {
  never: 'do not repeat',
  'same-request': 'repeated by itself, with back-off',
  'after-delay': 'repeated by itself after the delay',
  'after-operator': 'after somebody mended it',
  'full-backup': 'repeated by itself as a full backup',
  'fresh-ticket': 'repeated by itself with a fresh ticket',
};
const lines = [
  '# Errors',
  '',
  'Every error of Tidemark has a stable code. It is in the log, in the answer of the REST API (`code`), in the session’s report, and decides the exit',
  'code of the command line. Search this page for the code or for words of the message. `failure` is for you, `operational` is the environment, `bug` is ours.',
  'This page is written by `npm run docs` from the code; a test compares them.',
  '',
];
for (const folder of folders) {
  const codes = [...declaredErrors().values()].filter((e) => owner.get(e.code) === folder).sort((a, b) => (a.code < b.code ? -1 : 1));
  if (codes.length === 0) continue;
  lines.push(`## ${folder}`, '');
  for (const e of codes) lines.push(`### ${e.code}`, '', `> ${e.sample.replace(/\n/g, ' ')}`, '', `${e.kind} · gRPC ${e.status} · ${advice[e.retry]}`, '');
}
const page = `${lines.join('\n').trimEnd()}\n`;
const file = path.join(root, 'docs', 'errors.md');
if (process.argv.includes('--check')) {
  if (!fs.existsSync(file) || fs.readFileSync(file, 'utf8') !== page) {
    console.error('docs/errors.md does not match the declared errors; run `npm run docs`');
    process.exit(1);
  }
} else {
  fs.writeFileSync(file, page);
}
process.exit(0);
