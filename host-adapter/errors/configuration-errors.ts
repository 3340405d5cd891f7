import { defineErrors } from '../../common/errors/define-errors';

/** Errors of copies of the server's configuration. Codes are listed in docs/errors.md. */
export const ConfigurationErrors = defineErrors({
  CONFIGURATION_COPY_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { name: string; problem: string }) =>
      `The copy of the configuration ${m.name} cannot be used: ${m.problem}. Take an older one ("tidemark config restore --list" shows them).`,
  },
  CONFIGURATION_COPY_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'UNIMPLEMENTED',
    message: (m: { name: string; version: number }) =>
      `The copy of the configuration ${m.name} is of a newer version (${m.version}). Restore it with a Tidemark as new as the one that made it.`,
  },
  CONFIGURATION_COPY_NONE: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { location: string }) => `There is no copy of a server's configuration in ${m.location}.`,
  },
  CONFIGURATION_KEY_WRONG: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'PERMISSION_DENIED',
    message: (m: { name: string; made: string }) =>
      `This recovery key does not open the configuration ${m.name}: it was sealed for another one, made on ${m.made}. Nothing was written. Look for that key, or take a copy from before.`,
  },
  CONFIGURATION_KEY_SHOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: () =>
      'The recovery key of the configuration was shown before and is kept nowhere. "tidemark config key new" makes another one.',
  },
  CONFIGURATION_TOO_LARGE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { what: string; sizeBytes: number }) =>
      `The configuration cannot be copied: ${m.what} has ${m.sizeBytes} bytes. Move what does not belong there out of the server's data folder.`,
  },
  DATA_FOLDER_NOT_EMPTY: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { folder: string }) => `${m.folder} is not empty. A configuration is restored into a folder that is not there yet.`,
  },
});
