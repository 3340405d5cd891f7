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
  // Costs time only where something hangs. A machine that runs three suites and stalls now and then must not reach it.
  testTimeout: 240_000,
  // Suites of whole systems mostly wait: two at a time leave nearly half of two cores idle.
  maxWorkers: Math.max(3, os.availableParallelism() - 1),
  // Every suite leaves something of its modules behind. A worker of a gigabyte collects garbage more than it tests, and takes longer to end than
  // Jest waits, which then speaks of tests that leak.
  workerIdleMemoryLimit: '700MB',
};

export default config;
