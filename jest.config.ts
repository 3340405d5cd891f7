import os from 'node:os';
import type { Config } from 'jest';

/**
 * Tests run on the compiled output, so that worker threads and child processes are the very files that ship.
 * Suffixes: `.test` unit, `.prop.test` properties, `.contract.test` service contracts, `.integ.test` real outside tools,
 * `.e2e.test` whole system. `npm test -- --selectProjects unit` runs one kind.
 */
const project = (name: string, match: string[], ignore: string[] = []) => ({
  displayName: name,
  rootDir: 'dist',
  testEnvironment: 'node',
  testMatch: match.map((m) => `<rootDir>/**/${m}`),
  testPathIgnorePatterns: ignore,
  transform: {},
});

const config: Config = {
  projects: [
    project('unit', ['*.test.js'], ['\\.(contract|integ|e2e)\\.test\\.js$']),
    project('contract', ['*.contract.test.js']),
    project('integ', ['*.integ.test.js']),
    project('e2e', ['*.e2e.test.js']),
  ],
  testTimeout: 60_000,
  // Suites of whole systems mostly wait; one at a time would leave half of a small machine idle.
  maxWorkers: Math.max(2, os.availableParallelism() - 1),
};

export default config;
