import type { WorkerTrustOrder__Output } from '../../proto/gen/tidemark/host/v1/WorkerTrustOrder';
import type { WorkerTrustState } from '../../proto/gen/tidemark/host/v1/WorkerTrustState';
import { fingerprintsOf, sameAuthorities } from '../../common/tls/trust-state';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { ConnectedWorkers } from '../workers/ports';

export type TrustingWorkers = Pick<ConnectedWorkers, 'connected' | 'updateTrust'>;

/** Carries trust between the host and the workers, which know no host: their states up with each heartbeat, its orders down. */
export class WorkerTrust {
  /** What was passed on for which certificate; an order is repeated with each heartbeat until the worker reports. */
  readonly #passedOn = new Map<string, { readonly key: string; readonly at: number }>();

  constructor(
    private readonly workers: TrustingWorkers,
    private readonly identity: ProcessIdentity,
    private readonly now: () => number = () => performance.now(),
  ) {}

  states(): WorkerTrustState[] {
    return this.workers.connected().flatMap(({ workerId, trust }) => (trust ? [{ workerId, trust }] : []));
  }

  /**
   * Until the plug-in itself has the bundle that is wanted nothing is passed on; the next heartbeat brings the order again. True when something
   * was passed on.
   */
  passOn(orders: readonly WorkerTrustOrder__Output[]): boolean {
    let passedOn = false;
    const { trustBundlePem } = this.identity.material;
    const own = fingerprintsOf(trustBundlePem);
    const trustOf = new Map(this.workers.connected().map(({ workerId, trust }) => [workerId, trust]));
    for (const known of [...this.#passedOn.keys()]) if (!trustOf.has(known)) this.#passedOn.delete(known);
    for (const { workerId, order } of orders) {
      const trust = trustOf.get(workerId);
      if (!order || !trust || !sameAuthorities(order.trustedCaFingerprints, own)) continue;
      const settled = sameAuthorities(trust.trustedCaFingerprints, own) && !order.renewCertificate;
      const key = [...own, trust.serialNumber, order.renewCertificate].join(' ');
      const last = this.#passedOn.get(workerId);
      if (settled || (last?.key === key && this.now() - last.at < repeatMs)) continue;
      this.#passedOn.set(workerId, { key, at: this.now() });
      this.workers.updateTrust(workerId, { trustBundlePem, renewCertificate: order.renewCertificate });
      passedOn = true;
    }
    return passedOn;
  }
}

/** A worker that has not reported by then may not have heard. */
const repeatMs = 30_000;
