'use strict';
/**
 * The import rules of docs/architecture.md, checked on every run of the tests. `tsPreCompilationDeps` makes type-only imports count too.
 * No exceptions without a decision record.
 */
const processes = ['plugin', 'worker', 'mover', 'host-adapter'];
const ours = ['proto', 'common', ...processes, 'lab', 'scripts', 'test'];
const except = (...names) => `^(${ours.filter((name) => !names.includes(name)).join('|')})/`;

module.exports = {
  forbidden: [
    { name: 'proto-imports-nothing-of-ours', severity: 'error', from: { path: '^proto/' }, to: { path: except('proto') } },
    { name: 'common-imports-proto-only', severity: 'error', from: { path: '^common/' }, to: { path: except('common', 'proto') } },
    ...processes.map((name) => ({
      name: `${name}-imports-proto-common-itself`,
      severity: 'error',
      from: { path: `^${name}/` },
      to: { path: except(name, 'common', 'proto') },
    })),
    { name: 'lab-stands-alone', severity: 'error', from: { path: '^lab/' }, to: { path: except('lab', 'common', 'proto') } },
    {
      name: 'test-and-scripts-are-black-box',
      severity: 'error',
      from: { path: '^(test|scripts)/' },
      to: { path: `^(${processes.join('|')}|lab)/` },
    },
    {
      name: 'source-never-imports-tests',
      severity: 'error',
      from: { path: `^(${ours.join('|')})/`, pathNot: '(\\.test\\.ts$|/testing/|/fidelity/|^test/)' },
      to: { path: '(\\.test\\.ts$|/testing/)' },
    },
    {
      name: 'only-roots-see-the-container',
      severity: 'error',
      from: { pathNot: '((composition|register|main)[^/]*\\.ts$|/composition/)' },
      to: { path: 'node_modules/tsyringe' },
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: { pathNot: '^proto/gen/' },
      to: { circular: true, viaOnly: { pathNot: '^proto/gen/' } },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|\\.venv|\\.cache)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.base.json' },
  },
};
