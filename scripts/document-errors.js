'use strict';
/**
 * Writes docs/errors.md from the declared errors of all processes (compiled output). `--check` compares instead, exit code 1 when the page
 * is out of date: a code without a page, or a page without a code, must not land.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const dist = path.join(root, 'dist');
const folders = ['common', 'mover', 'worker', 'plugin', 'host-adapter'];

/** Compiled files of a process that declare errors. */
function modulesOf(folder) {
  return fs
    .readdirSync(path.join(dist, folder), { recursive: true })
    .filter((name) => name.endsWith('.js') && !name.endsWith('.test.js') && !name.includes('testing'))
    .map((name) => path.join(dist, folder, name))
    .filter((file) => fs.readFileSync(file, 'utf8').includes('defineErrors)('))
    .sort();
}

/** Codes that one process may raise, those of `common` included; asked of a program of its own. */
function codesOf(folder) {
  const modules = modulesOf(folder);
  const program = `
    for (const file of ${JSON.stringify(modules)}) require(file);
    const { declaredErrors } = require(${JSON.stringify(path.join(dist, 'common/errors/define-errors.js'))});
    process.stdout.write(JSON.stringify([...declaredErrors().values()]), () => process.exit(0));`;
  return JSON.parse(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 }));
}

/** Two tables with one code would be two errors under one name. */
function assertDeclaredOnce() {
  const places = new Map();
  for (const folder of folders) {
    for (const file of modulesOf(folder)) {
      for (const [, code] of fs.readFileSync(file, 'utf8').matchAll(/^ {4}([A-Z][A-Z0-9_]+): \{$/gm)) {
        if (places.has(code)) {
          console.error(`${code} is declared in ${places.get(code)} and in ${path.relative(dist, file)}; give it one place`);
          process.exit(1);
        }
        places.set(code, path.relative(dist, file));
      }
    }
  }
}

assertDeclaredOnce();
const documented = new Set();
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
  const codes = codesOf(folder)
    .filter((e) => !documented.has(e.code))
    .sort((a, b) => (a.code < b.code ? -1 : 1));
  for (const e of codes) documented.add(e.code);
  if (codes.length === 0) continue;
  lines.push(`## ${folder}`, '');
  for (const e of codes)
    lines.push(
      `### ${e.code}`,
      '',
      `> ${e.sample.replace(/\n/g, ' ').replace(/NaN/g, '<n>')}`,
      '',
      `${e.kind} · gRPC ${e.status} · ${advice[e.retry]}`,
      '',
    );
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
