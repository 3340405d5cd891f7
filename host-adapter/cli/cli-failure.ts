import { ExitCode } from './exit-code';
import type { ExitCodeValue } from './exit-code';

/** Ends a command: printed on standard error (or as JSON), then the exit code. */
export class CliFailure extends Error {
  constructor(
    readonly exitCode: ExitCodeValue,
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = 'CliFailure';
  }
}

export function usage(message: string): CliFailure {
  return new CliFailure(ExitCode.usage, 'USAGE', message);
}
