'use strict';
/**
 * Compares the table of docs/operations/events.md with the events that plug-in and server report: a code without a line, or a line without a
 * code, must not land. Read from the sources: `code` beside `severity` in an object, the values of a `…Events` table, and a code that is handed
 * to a method `tell` or `report`.
 */
const fs = require('node:fs');
const path = require('node:path');
const ts = require('typescript');

const root = path.join(__dirname, '..');
const page = path.join(root, 'docs', 'operations', 'events.md');
const isCode = (text) => /^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$/.test(text);
const isOurs = (name) => name.endsWith('.ts') && !/\.test\.ts$|(^|\/)testing\//.test(name);

/** Codes among the string literals of an expression: a condition has two. */
function literalsIn(node, found = []) {
  if (ts.isStringLiteral(node) && isCode(node.text)) found.push(node.text);
  ts.forEachChild(node, (child) => void literalsIn(child, found));
  return found;
}

function propertyOf(object, name) {
  return object.properties.find((property) => property.name && property.name.getText().replace(/['"]/g, '') === name);
}

function codesOf(node, found) {
  if (ts.isObjectLiteralExpression(node) && propertyOf(node, 'severity')) {
    const code = propertyOf(node, 'code');
    if (code && ts.isPropertyAssignment(code)) found.push(...literalsIn(code.initializer));
  }
  if (ts.isVariableDeclaration(node) && /Events$/.test(node.name.getText()) && node.initializer)
    found.push(...literalsIn(node.initializer));
  if (ts.isCallExpression(node)) {
    const called = ts.isPropertyAccessExpression(node.expression) ? node.expression.name.getText() : node.expression.getText();
    if (/^#?(tell|report)$/.test(called)) found.push(...node.arguments.filter(ts.isStringLiteral).flatMap((one) => literalsIn(one)));
  }
  ts.forEachChild(node, (child) => codesOf(child, found));
}

const reported = new Set();
for (const folder of ['plugin', 'host-adapter']) {
  for (const name of fs.readdirSync(path.join(root, folder), { recursive: true }).filter(isOurs)) {
    const text = fs.readFileSync(path.join(root, folder, name), 'utf8');
    const found = [];
    codesOf(ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true), found);
    for (const code of found) reported.add(code);
  }
}
const documented = new Set([...fs.readFileSync(page, 'utf8').matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map(([, code]) => code));
const problems = [
  ...[...reported].filter((code) => !documented.has(code)).map((code) => `${code} is reported and not in docs/operations/events.md`),
  ...[...documented].filter((code) => !reported.has(code)).map((code) => `${code} is in docs/operations/events.md and never reported`),
];
for (const problem of problems) console.error(problem);
process.exit(problems.length === 0 && reported.size > 0 ? 0 : 1);
