import { toTidemarkError } from '../errors/common-errors';
import { redactText } from '../log/redact';
import type { Logger } from '../log/logger';
import { Lifecycle } from './lifecycle';
import type { Service } from './lifecycle';

/**
 * Runs a role in the foreground until SIGTERM or SIGINT, or until its parent closes the pipe on standard input when
 * `endWithParent` is set (a supervised child must not outlive its server). Resolves with the exit code: 0 stopped, 1 failed.
 */
export async function runRole(options: {
  readonly role: string;
  readonly logger: Logger;
  readonly services: readonly Service[];
  readonly endWithParent?: boolean;
  /** Printed on standard output once all services run, for supervisors and tests. */
  readonly ready?: () => object;
}): Promise<number> {
  const { logger } = options;
  const stopped = new Promise<string>((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
    if (options.endWithParent === true) {
      process.stdin.once('end', () => resolve('parent ended'));
      process.stdin.once('error', () => resolve('parent ended'));
      process.stdin.resume();
    }
  });
  process.on('unhandledRejection', (error) => {
    logger.error('unhandled rejection', { error });
  });
  const lifecycle = new Lifecycle(options.services, logger);
  try {
    await lifecycle.start();
  } catch (thrown) {
    const error = toTidemarkError(thrown, `starting ${options.role}`);
    logger.error('start failed', { code: error.code, message: error.message, error });
    process.stderr.write(`tidemark ${options.role}: ${redactText(error.message)}\n`);
    return 1;
  }
  logger.info('running', { role: options.role, pid: process.pid });
  if (options.ready) process.stdout.write(`${JSON.stringify({ ready: options.role, ...options.ready() })}\n`);
  const reason = await stopped;
  logger.info('stopping', { reason });
  await lifecycle.stop();
  return 0;
}
