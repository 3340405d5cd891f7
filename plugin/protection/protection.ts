/**
 * The use cases behind ProtectionService: start a backup or a restore, conclude, cancel, watch, list. Owns what is checked before an
 * operation is accepted; the flows do the work.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { Clock } from '../operations/clock';
import type { SequencedEvent } from '../operations/events';
import type { Operation } from '../operations/operation';
import type { OperationRegistry } from '../operations/operation-registry';
import { PlatformErrors } from '../platforms/platform-errors';
import type { ConnectedFleet } from '../workers/connected-fleet';
import type { BackupFlow } from './backup-flow';
import type { EngineDirectory } from './engine-port';
import type { BackupRequest, RestoreRequest } from './requests';
import type { RestoreFlow } from './restore-flow';
import { planRestore } from './restore-plan';

/** A start is answered within 10 s; an engine that is slower than this does not hold it up. */
const lookMs = 6_000;
const listEndedMs = 3_600_000;

export class Protection {
  /** The data paths that running operations began with. */
  readonly #paths = new Map<string, DataPath>();

  constructor(
    private readonly registry: OperationRegistry,
    private readonly engines: EngineDirectory,
    private readonly backups: BackupFlow,
    private readonly restores: RestoreFlow,
    private readonly clock: Clock,
    private readonly workers: Pick<ConnectedFleet, 'changeDataPath' | 'forgetDataPath'>,
  ) {}

  /** Throws PLATFORM_NOT_FOUND, VM_NOT_FOUND and what the registry throws. */
  async startBackup(request: BackupRequest, fingerprint: string): Promise<void> {
    const { vm, operationId, sessionId } = request;
    if (this.#known(operationId, fingerprint)) return;
    await this.#mustExist(vm.platformId, vm.vmId);
    await this.registry.start({
      header: { operationId, kind: 'backup', sessionId, vm, platformId: vm.platformId, fingerprint },
      run: (scope) => this.#along(request, () => this.backups.run(scope, request)),
    });
  }

  /** Throws what a plan may be refused for, see restore-plan.ts, and what the registry throws. */
  async startRestore(request: RestoreRequest, fingerprint: string): Promise<void> {
    const { operationId, sessionId, platformId } = request;
    if (this.#known(operationId, fingerprint)) return;
    const plan = await planRestore((id) => this.engines.of(id), request, new Date(this.clock.now()));
    await this.registry.start({
      header: { operationId, kind: 'restore', sessionId, platformId, fingerprint },
      run: (scope) => this.#along(request, () => this.restores.run(scope, request, plan)),
    });
  }

  conclude(operationId: string, committed: boolean): void {
    this.registry.get(operationId).conclude(committed);
  }

  cancel(operationId: string): void {
    this.registry.get(operationId).cancel();
  }

  /** Another mover has the operation's session. Throws OPERATION_NOT_FOUND, also for one that ended, and ARGUMENT_INVALID. */
  changeDataPath(operationId: string, path: DataPath): void {
    const first = this.#paths.get(operationId);
    if (!first) throw CommonErrors.OPERATION_NOT_FOUND({ operationId });
    for (const [field, key] of [
      ['data_path.session_id', 'sessionId'],
      ['data_path.repository_id', 'repositoryId'],
    ] as const) {
      if (path[key] !== first[key]) throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'is not what the operation began with' });
    }
    this.workers.changeDataPath(path);
  }

  /** Throws OPERATION_NOT_FOUND. */
  watch(operationId: string, afterSequence: number, keepAliveMs: number, signal: AbortSignal): AsyncGenerator<SequencedEvent | undefined> {
    return this.registry.get(operationId).watch(afterSequence, keepAliveMs, signal);
  }

  list(): Operation[] {
    return this.registry.list(this.clock.now() - listEndedMs);
  }

  async #along<T>({ operationId, dataPath }: BackupRequest | RestoreRequest, work: () => Promise<T>): Promise<T> {
    this.#paths.set(operationId, dataPath);
    try {
      return await work();
    } finally {
      this.#paths.delete(operationId);
      this.workers.forgetDataPath(dataPath.sessionId ?? '');
    }
  }

  /** A repetition of a request is answered before anything is checked: by now its name is taken, by itself. */
  #known(operationId: string, fingerprint: string): boolean {
    const known = this.registry.find(operationId);
    if (!known) return false;
    if (known.header.fingerprint !== fingerprint) throw CommonErrors.REQUEST_ID_REUSED({ requestId: operationId });
    return true;
  }

  async #mustExist(platformId: string, vmId: string): Promise<void> {
    const engine = this.engines.of(platformId);
    try {
      if (await engine.vms.find(vmId, { timeoutMs: lookMs, signal: AbortSignal.timeout(lookMs) })) return;
    } catch (error) {
      // An engine that is away is waited for by the operation, with a reason that can be read.
      if (hasCode(error, 'ENGINE_UNAVAILABLE', 'ENGINE_ANSWER_INVALID', 'ENGINE_INTERNAL_FAILURE', 'CANCELLED', 'DEADLINE_EXCEEDED'))
        return;
      if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError')) return;
      throw error;
    }
    throw PlatformErrors.VM_NOT_FOUND({ platformId, vmId });
  }
}
