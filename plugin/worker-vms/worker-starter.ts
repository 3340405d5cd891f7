/**
 * From a VM that is down to a worker that may be given work: token, start with its seed, its first word, self-test. Every start brings a new
 * token, since a worker keeps nothing.
 */
import { createHash, randomUUID } from 'node:crypto';
import net from 'node:net';
import { engineCorrelationId } from '../engine/engine-session';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { OperationScope } from '../operations/operation';
import { startPace, transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import type { ConnectedWorkers } from '../workers/ports';
import type { WorkerEngine } from './engine-port';
import type { WorkerHost } from './host-port';
import { applianceSeed, runOnceAttributes } from './seed';
import { problemsOf, selfTestTargets } from './self-test-targets';
import type { WorkerSettings } from './settings';
import { engineMs } from './timing';
import type { WorkerVmLimits } from './timing';
import { powerOff } from './vm-power';
import { WorkerVmErrors } from './worker-vm-errors';

/** Where workers dial the plug-in. */
export interface WorkerEndpoints {
  readonly endpoint: string;
  readonly enrolmentEndpoint: string;
}

export interface StartOrder {
  readonly workerId: string;
  readonly name: string;
  readonly platformId: string;
  readonly clusterId: string;
  readonly settings: WorkerSettings;
  readonly vmId: string;
  /** Empty: any host of the cluster. */
  readonly hostIds: readonly string[];
  readonly endpoints: WorkerEndpoints;
}

export interface TestOutcome {
  /** Undefined when the worker is too old to test itself. */
  readonly selfTest: SelfTest__Output | undefined;
  readonly failure: TidemarkError | undefined;
}

/** A VM that comes up too late for its token is started so often, and each later token is good for longer. */
const mostTokens = 3;
const laterTokenFactor = 3;
const longestTokenMs = 3_600_000;
/** An accepted start shows in the VM's status at once; this is for engines that lag. */
const startShowsMs = 10_000;

export class WorkerStarter {
  /** Tokens that guests are waited for with, by their digest, and whether the host refused them. */
  readonly #awaited = new Map<string, 'open' | 'refused'>();

  constructor(
    private readonly host: WorkerHost,
    private readonly workers: ConnectedWorkers,
    private readonly patience: Patience,
    private readonly limits: WorkerVmLimits,
    private readonly logger: Logger,
  ) {}

  /**
   * Starts the VM, waits for the worker and tests it. A VM that was started keeps running when this throws: WORKER_VM_NOT_STARTED,
   * WORKER_NOT_ENROLLED, WORKER_TOKEN_LATE, WORKER_VM_GONE, CANCELLED, errors of host and engine.
   */
  async start(engine: WorkerEngine, scope: OperationScope, order: StartOrder): Promise<TestOutcome> {
    const { workerId, name } = order;
    for (let tried = 1; ; tried += 1) {
      // What is left of an earlier life of the VM must not be taken for this one.
      this.workers.abandon(workerId);
      const tokenMs = Math.max(this.limits.tokenMs, Math.min(this.limits.tokenMs * laterTokenFactor ** (tried - 1), longestTokenMs));
      const { token } = await this.host.createWorkerToken(randomUUID(), workerId, tokenMs);
      const digest = digestOf(token);
      this.#awaited.set(digest, 'open');
      try {
        await this.#startVm(engine, scope, order, token);
        if ((await this.#firstWord(engine, scope, order, digest)) === 'enrolled') break;
      } finally {
        this.#awaited.delete(digest);
      }
      // The guest came up and had its token refused, which nothing but another start can mend: the program in it has ended, or is about to.
      if (tried >= mostTokens) throw WorkerVmErrors.WORKER_TOKEN_LATE({ name, starts: tried, tokenMs });
      this.logger.warn('a worker VM came up too late for its token; it is started with a new one', { workerId, name, tokenMs });
      const off = await powerOff(engine, this.patience, order.vmId, { signal: scope.signal, deadlineMs: engineMs });
      if (off !== 'down') throw WorkerVmErrors.WORKER_VM_NOT_STOPPED({ name, status: off });
    }
    return await this.test(engine, scope.signal, order);
  }

  /** The host does not take this token (any more). Tokens of others are nothing to us. */
  tokenRefused(token: string): void {
    const digest = digestOf(token);
    if (this.#awaited.has(digest)) this.#awaited.set(digest, 'refused');
  }

  /** A failed test is an outcome: the matrix says what to mend. */
  async test(engine: WorkerEngine, signal: AbortSignal, order: Pick<StartOrder, 'workerId' | 'clusterId' | 'name'>): Promise<TestOutcome> {
    const selfTest = await this.#run(engine, signal, order);
    const problems = selfTest ? problemsOf(selfTest) : '';
    const failure = problems === '' ? undefined : WorkerVmErrors.WORKER_SELF_TEST_FAILED({ name: order.name, problems });
    return { selfTest, failure };
  }

  async #run(
    engine: WorkerEngine,
    signal: AbortSignal,
    order: Pick<StartOrder, 'workerId' | 'clusterId'>,
  ): Promise<SelfTest__Output | undefined> {
    const movers = await this.host.createProbePaths();
    const targets = await selfTestTargets(engine, order.clusterId, movers, this.limits, signal);
    try {
      return await this.workers.selfTest(order.workerId, targets, signal);
    } catch (error) {
      // A worker of the version before this one: it is as good as its stream.
      if (hasCode(error, 'CAPABILITY_MISSING')) return undefined;
      throw error;
    }
  }

  async #startVm(engine: WorkerEngine, scope: OperationScope, order: StartOrder, enrolmentToken: string): Promise<void> {
    const { signal } = scope;
    const { workerId, vmId, name, settings, endpoints } = order;
    const nics = [...(await engine.nics.list(vmId, { signal }))].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    const seed = applianceSeed({
      workerId,
      name,
      platformId: order.platformId,
      clusterId: order.clusterId,
      settings,
      macAddresses: nics.map((nic) => nic.macAddress ?? ''),
      ...endpoints,
      enrolmentToken,
      engineHost: new URL(engine.url).hostname.replace(/^\[(.*)\]$/, '$1'),
    });
    const correlationId = engineCorrelationId('start', randomUUID().slice(0, 8));
    let acceptedAt: number | undefined;
    const ended = await this.patience.poll({ signal, deadlineMs: engineMs, everyMs: transferPace }, async () => {
      const vm = await engine.vms.find(vmId, { signal });
      if (!vm) throw WorkerVmErrors.WORKER_VM_GONE({ name });
      if (vm.status !== 'down') return vm.status === 'image_locked' ? undefined : 'running';
      if (acceptedAt !== undefined) return this.patience.clock.elapsed() - acceptedAt > startShowsMs ? 'fell' : undefined;
      try {
        await this.patience.create(signal, (lingering) =>
          engine.vms.startWithCloudInit(vmId, runOnceAttributes(seed, order.hostIds), { signal: lingering, correlationId }),
        );
        acceptedAt = this.patience.clock.elapsed();
      } catch (error) {
        if (hasCode(error, 'ENGINE_REFUSED'))
          throw WorkerVmErrors.WORKER_VM_NOT_STARTED({ name, problem: detailOf(error) }, { cause: error });
        // Its disk is still locked by what was done to it, or the answer was lost: the next look tells.
        if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_UNAVAILABLE', 'ENGINE_INTERNAL_FAILURE', 'ENGINE_ANSWER_INVALID')) throw error;
      }
      return undefined;
    });
    if (ended === 'running') return;
    const reason = await engine.events.failureText(correlationId, { signal });
    throw WorkerVmErrors.WORKER_VM_NOT_STARTED({ name, problem: reason ?? 'it gives no reason; look at its events' });
  }

  async #firstWord(engine: WorkerEngine, scope: OperationScope, order: StartOrder, tokenDigest: string): Promise<'enrolled' | 'refused'> {
    const { signal } = scope;
    const { workerId, vmId, name } = order;
    const since = this.patience.clock.elapsed();
    let lookedAt = since;
    const there = await this.patience.poll({ signal, deadlineMs: this.limits.enrolmentMs, everyMs: startPace }, async () => {
      if (this.workers.connected().some((worker) => worker.workerId === workerId)) return 'enrolled';
      if (this.#awaited.get(tokenDigest) === 'refused') return 'refused';
      const now = this.patience.clock.elapsed();
      if (now - lookedAt < 5000) return undefined;
      lookedAt = now;
      const vm = await engine.vms.find(vmId, { signal });
      if (!vm) throw WorkerVmErrors.WORKER_VM_GONE({ name });
      if (vm.status === 'down') throw WorkerVmErrors.WORKER_VM_NOT_STARTED({ name, problem: 'it went down again; look at its events' });
      return undefined;
    });
    if (there === undefined) {
      const waitedMs = this.patience.clock.elapsed() - since;
      throw WorkerVmErrors.WORKER_NOT_ENROLLED({ name, endpoint: order.endpoints.endpoint, waitedMs });
    }
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: `operation ${scope.header.operationId}` });
    return there;
  }
}

/** Tokens are secrets: none is kept. */
function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** True for an endpoint that means this machine, wherever it is dialled. */
export function isLocalEndpoint(endpoint: string): boolean {
  const host = endpoint.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.'));
}

function detailOf(error: { readonly meta: Readonly<Record<string, unknown>>; readonly message: string }): string {
  const detail = error.meta['detail'];
  return typeof detail === 'string' && detail !== '' ? detail : error.message;
}
