import { applianceSeedSchema } from '../../common/appliance/seed';
import type { ApplianceSeed } from '../../common/appliance/seed';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { Wire } from '../engine/mapping';
import { objectOf, textOf } from '../engine/mapping';
import type { ConnectedFleet } from '../workers/connected-fleet';
import type { FakeEngine } from './fake-engine';
import { MemoryWorker } from './memory-worker';

/** The host side of tokens, and the guests that use them: a worker VM that comes up reads its config drive, enrols and dials in. */
export class FakeGuests {
  readonly tokens = new Map<string, string>();
  readonly revoked: string[] = [];
  /** Seeds of VMs that run now. */
  readonly seeds = new Map<string, ApplianceSeed>();
  readonly #workers = new Map<string, MemoryWorker>();
  #fleet: ConnectedFleet | undefined;
  /** So many guests come up when their token is good no more, have it refused, and end. */
  late = 0;
  /** Lives of the tokens that were asked for. */
  readonly tokenLivesMs: number[] = [];
  /** The plug-in's, which hears what the host refuses. */
  refused: (token: string) => void = () => undefined;
  /** False: guests come up and say nothing. */
  speak = true;
  verdict: 'SELF_TEST_VERDICT_PASSED' | 'SELF_TEST_VERDICT_FAILED' = 'SELF_TEST_VERDICT_PASSED';
  tests = 0;
  hostAway = false;

  constructor(private readonly engine: FakeEngine) {
    engine.poweredOn = (vmId, runOnce) => this.#boot(vmId, runOnce);
    engine.poweredOff = (vmId) => this.cut(vmId);
  }

  /** The plug-in that answers from now on; guests that run dial it again. */
  serve(fleet: ConnectedFleet): void {
    for (const worker of this.#workers.values()) worker.kill();
    this.#workers.clear();
    this.#fleet = fleet;
    for (const vmId of this.seeds.keys()) this.#dial(vmId);
  }

  workerOf(vmId: string): MemoryWorker | undefined {
    return this.#workers.get(vmId);
  }

  /** The guest ends. */
  cut(vmId: string): void {
    this.seeds.delete(vmId);
    this.silence(vmId);
  }

  /** The guest runs on, and cannot be heard. */
  silence(vmId: string): void {
    this.#workers.get(vmId)?.kill();
    this.#workers.delete(vmId);
  }

  #boot(vmId: string, runOnce: Wire): void {
    const script = textOf(objectOf(runOnce, 'initialization') ?? {}, 'custom_script') ?? '';
    const content = /content: \|\n {4}(.*)\n/.exec(script)?.[1] ?? '{}';
    const seed = applianceSeedSchema.parse(JSON.parse(content));
    if (this.late > 0) {
      this.late -= 1;
      this.tokens.delete(seed.plugin.enrolmentToken);
      this.refused(seed.plugin.enrolmentToken);
      this.engine.later(() => (this.engine.vmsById.get(vmId)!.vm.status = 'down'));
      return;
    }
    // Once only.
    if (this.tokens.get(seed.plugin.enrolmentToken) !== seed.workerId || !this.speak) return;
    this.tokens.delete(seed.plugin.enrolmentToken);
    this.seeds.set(vmId, seed);
    this.#dial(vmId);
  }

  #dial(vmId: string): void {
    const seed = this.seeds.get(vmId);
    if (!this.#fleet || !seed) return;
    const { workerId, taskSlots, platformId, clusterId } = seed;
    const worker = new MemoryWorker(this.#fleet, workerId, taskSlots, { platformId, clusterId, capabilities: ['self-test', 'resume'] });
    worker.selfTest = ({ targets = [] }) => {
      this.tests += 1;
      return {
        testedAt: null,
        verdict: this.verdict,
        cells: targets.map((target) => ({
          check: target.check ?? 'SELF_TEST_CHECK_UNSPECIFIED',
          target: target.endpoint ?? '',
          targetName: target.name ?? '',
          verdict: this.verdict,
          detail: 'looked at',
          advice: 'Open the port',
          code: '',
          latency: null,
          bytesPerSecond: '0',
          localAddress: '',
        })),
      } as SelfTest__Output;
    };
    this.#workers.set(vmId, worker);
  }
}
