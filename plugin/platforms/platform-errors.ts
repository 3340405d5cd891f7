import { defineErrors } from '../../common/errors/define-errors';

export const PlatformErrors = defineErrors({
  PLATFORM_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { platformId: string }) =>
      `No engine is connected under the id ${m.platformId}. List the platforms to see which there are.`,
  },
  PLATFORM_EXISTS: {
    kind: 'failure',
    retry: 'never',
    status: 'ALREADY_EXISTS',
    message: (m: { url: string; platformId: string; name: string }) =>
      `The engine ${m.url} is connected already, as "${m.name}" (${m.platformId}). Use that one.`,
  },
  PLATFORM_IN_USE: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { platformId: string; reason: string }) =>
      `The engine ${m.platformId} cannot be forgotten now: ${m.reason}. Wait for it, or stop it, then remove the platform.`,
  },
  PLATFORM_STORE_DAMAGED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'DATA_LOSS',
    message: (m: { file: string; problem: string }) =>
      `The list of connected engines cannot be read (${m.file}: ${m.problem}). Put the file or its key back from a copy of the data folder, or move it away and connect the engines again.`,
  },
  VM_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { platformId: string; vmId: string }) => `The engine ${m.platformId} has no VM ${m.vmId} (any more).`,
  },
});
