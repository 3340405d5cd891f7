/** Exit codes of the command line; stable, documented in docs/operations/command-line.md. */
export const ExitCode = {
  success: 0,
  failed: 1,
  usage: 2,
  warnings: 3,
  notFound: 4,
  refused: 5,
  notAllowed: 6,
  unreachable: 7,
} as const;

export type ExitCodeValue = (typeof ExitCode)[keyof typeof ExitCode];

/** The code for an answer of the REST API. */
export function exitCodeOfStatus(httpStatus: number): ExitCodeValue {
  switch (httpStatus) {
    case 400:
    case 413:
    case 415:
      return ExitCode.usage;
    case 401:
    case 403:
      return ExitCode.notAllowed;
    case 404:
      return ExitCode.notFound;
    case 409:
    case 412:
    case 422:
    case 429:
      return ExitCode.refused;
    case 502:
    case 503:
    case 504:
      return ExitCode.unreachable;
    default:
      return ExitCode.failed;
  }
}

/** The code for how a session ended. */
export function exitCodeOfState(state: string): ExitCodeValue {
  if (state === 'success') return ExitCode.success;
  if (state === 'warning' || state === 'partial') return ExitCode.warnings;
  return ExitCode.failed;
}
