/** The worker inside of its VM: enrolled with the seed's token, run until it is told to stop or is not wanted any more. */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { Lifecycle } from '../../common/lifecycle/lifecycle';
import { processInfo } from '../../common/lifecycle/process-info';
import { becomeSoleProcess } from '../../common/lifecycle/sole-process';
import type { Logger } from '../../common/log/logger';
import { composeWorker, workerCapabilities, workerProtocols } from '../composition';
import type { WorkerConfig } from '../config';
import { enrolWorker } from '../plugin/enrolment';

/** `refused`: only a new start with a new token helps. */
export type WorkerEnd = 'stopped' | 'failed' | 'refused';

/** What no second try with the same token can mend. */
const refusals = ['ENROLMENT_TOKEN_INVALID', 'TRUST_FINGERPRINT_MISMATCH', 'IDENTITY_REVOKED', 'ROLE_NOT_ALLOWED'] as const;

/** `milestones` says the few good news that a console should have; `logger` gets what the worker itself logs. */
export async function runWorker(config: WorkerConfig, logger: Logger, milestones: Logger, stop: AbortSignal): Promise<WorkerEnd> {
  let lifecycle: Lifecycle | undefined;
  try {
    await becomeSoleProcess(config.dataFolder);
    const info = processInfo(config.dataFolder, workerProtocols, workerCapabilities);
    milestones.info(`worker: dialling ${config.plugin.enrolmentEndpoint} to enrol`);
    const identity = await Promise.race([enrolWorker(config, info, logger), whenAborted(stop)]);
    if (!identity) return 'stopped';
    milestones.info(`worker: enrolled as ${identity.self.id}; dialling ${config.plugin.endpoint}`);
    let refuse: (code: string) => void = () => undefined;
    const refused = new Promise<string>((resolve) => (refuse = resolve));
    const { services } = composeWorker(config, logger, info, identity, refuse);
    lifecycle = new Lifecycle(services, logger);
    await lifecycle.start();
    milestones.info('worker: runs');
    const code = await Promise.race([refused, whenAborted(stop)]);
    if (code === undefined) return 'stopped';
    milestones.error(`worker: the plug-in does not want this worker any more (${code})`);
    return 'refused';
  } catch (error) {
    if (!isTidemarkError(error)) {
      milestones.error('worker: failed in an unexpected way', { error });
      return 'failed';
    }
    milestones.error(`worker: ${error.message} [${error.code}]`);
    return hasCode(error, ...refusals) ? 'refused' : 'failed';
  } finally {
    await lifecycle?.stop();
  }
}

function whenAborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
