import { defineErrors } from '../../common/errors/define-errors';

/** Errors of a worker VM's start: what it was not told, or was told wrongly. */
export const ApplianceErrors = defineErrors({
  CONFIG_DRIVE_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { where: string; reason: string }) =>
      `The worker VM finds no config drive (${m.where}: ${m.reason}). Start it through Tidemark: a start by hand in the engine's portal has none.`,
  },
  SEED_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { reason: string }) =>
      `The config drive carries no settings for a worker (${m.reason}). Start the VM through Tidemark, which makes them for each start.`,
  },
  SEED_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { problems: string }) =>
      `The settings on the config drive cannot be used: ${m.problems}. Plug-in and worker image may be of versions that do not fit: redeploy the worker.`,
  },
  ROOT_WRITABLE: {
    kind: 'bug',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: () => 'The root file system of this worker VM can be written, so it is not the image that was built. Redeploy the worker.',
  },
});
