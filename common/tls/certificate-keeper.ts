/**
 * Keeps a process's certificate and trust in order without a restart: renews at two thirds of the certificate's life, asks now and then for
 * the CAs to trust, and obeys at once what the host orders with a heartbeat (see tidemark.common.v1.TrustOrder). New
 * connections use what is new; those under way are drained (see connectionDrainMs).
 */
import net from 'node:net';
import { toTidemarkError } from '../errors/common-errors';
import type { TidemarkError } from '../errors/tidemark-error';
import type { Service } from '../lifecycle/lifecycle';
import type { Logger } from '../log/logger';
import { pause } from '../rpc/call';
import type { IssuedCertificate } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import type { TrustOrder } from '../../proto/gen/tidemark/common/v1/TrustOrder';
import { createCertificateRequest } from './certificate-request';
import type { ProcessIdentity } from './identity';
import { fingerprintsOf, isAuthorityBundle, taskOf } from './trust-state';

/** Whoever issues certificates for the process: the host, or for a worker its plug-in. */
export interface CertificateIssuer {
  renew(certificateRequestPem: string, signal: AbortSignal): Promise<IssuedCertificate | null>;
  /** PEM of the CAs to trust now. */
  trustBundle(signal: AbortSignal): Promise<string>;
  /** Names and addresses that the certificate is asked for; absent where it carries none. */
  readonly names?: readonly string[];
}

/** What the host wants: its order, and the certificate that it knew of. */
interface Order {
  readonly order: Pick<TrustOrder, 'renewCertificate'> & { readonly trustedCaFingerprints?: readonly string[] };
  readonly reportedSerial: string;
}

const longestSleepMs = 10 * 60_000;
const firstRetryMs = 1_000;
const longestRetryMs = 60_000;
/** From here on a certificate that could not be renewed is worth an alarm. */
const alarmBeforeMs = 14 * 86_400_000;

export class CertificateKeeper implements Service {
  readonly name = 'certificate keeper';
  readonly #stop = new AbortController();
  #wake = new AbortController();
  #order: Order | undefined;
  /** Asked for once per process: an issuer that leaves a name out will do so again. */
  #namesAsked = false;
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly identity: ProcessIdentity,
    private readonly issuer: CertificateIssuer,
    private readonly logger: Logger,
    /** Told once when the certificate comes to its end and cannot be renewed. */
    private readonly alarm: (message: string) => void = () => undefined,
  ) {}

  /** Returns at once; the rest happens in the background. */
  start(): Promise<void> {
    this.#running = this.#keep(this.#stop.signal);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Takes an order; `reportedSerial` is what the heartbeat that it answers reported. Absent or fulfilled ones cost nothing. */
  obey(order: Order['order'] | null | undefined, reportedSerial: string): void {
    if (!order) return;
    const task = taskOf(order, this.identity, reportedSerial);
    if (!task.bundle && !task.certificate) return;
    this.#order = { order, reportedSerial };
    this.#wake.abort();
  }

  async #keep(signal: AbortSignal): Promise<void> {
    let failures = 0;
    let alarmed = false;
    while (!signal.aborted) {
      let sleepMs = Math.min(Math.max(this.identity.renewAt.getTime() - Date.now(), firstRetryMs), longestSleepMs);
      this.#wake = new AbortController();
      try {
        if (await this.#lookAfter(signal)) alarmed = false;
        failures = 0;
      } catch (thrown) {
        if (signal.aborted) return;
        const error = toTidemarkError(thrown, 'renewing the certificate');
        failures += 1;
        sleepMs = Math.min(sleepMs, firstRetryMs * 2 ** Math.min(failures, 10), longestRetryMs);
        alarmed = this.#failed(error, alarmed);
      }
      await pause(sleepMs, AbortSignal.any([signal, this.#wake.signal])).catch(() => undefined);
    }
  }

  /** True when the certificate is a new one. */
  async #lookAfter(signal: AbortSignal): Promise<boolean> {
    const ordered = this.#order;
    const task = ordered && taskOf(ordered.order, this.identity, ordered.reportedSerial);
    const due = Date.now() >= this.identity.renewAt.getTime() || this.#lacksNames();
    if (due || task?.certificate === true) await this.#renew(signal);
    else await this.#followTrust(signal);
    if (this.#order === ordered) this.#order = undefined;
    return due || task?.certificate === true;
  }

  /** The configuration got a name after the certificate was issued, e.g. the address by which worker VMs reach an all-in-one server. */
  #lacksNames(): boolean {
    const { certificate } = this.identity;
    const has = (name: string) => (net.isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined;
    if (this.#namesAsked || (this.issuer.names ?? []).every(has)) return false;
    this.#namesAsked = true;
    return true;
  }

  /** A new key, signed, stored and used for new connections. The answer brings the trust of now. */
  async #renew(signal: AbortSignal): Promise<void> {
    const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
    const certificate = await this.issuer.renew(certificateRequestPem, signal);
    if (!certificate?.certificateChainPem) return;
    const told = certificate.trustBundlePem ?? '';
    // Trusting nobody would lock the process out for good.
    const trustBundlePem = isAuthorityBundle(told) ? told : this.identity.material.trustBundlePem;
    this.identity.replace({ certificateChainPem: certificate.certificateChainPem, privateKeyPem, trustBundlePem });
    this.logger.info('certificate renewed', { validTo: this.identity.certificate.validTo });
  }

  async #followTrust(signal: AbortSignal): Promise<void> {
    const trustBundlePem = await this.issuer.trustBundle(signal);
    if (!isAuthorityBundle(trustBundlePem) || trustBundlePem.trim() === this.identity.material.trustBundlePem.trim()) return;
    this.identity.replace({ ...this.identity.material, trustBundlePem });
    this.logger.info('trusted CAs changed', { fingerprints: fingerprintsOf(trustBundlePem) });
  }

  /** True when an alarm is given already. */
  #failed(error: TidemarkError, alarmed: boolean): boolean {
    const leftMs = Date.parse(this.identity.certificate.validTo) - Date.now();
    const due = Date.now() >= this.identity.renewAt.getTime();
    const fields = { code: error.code, message: error.message, leftMs };
    this.logger[due ? 'warn' : 'debug']('the certificate could not be looked after; it is tried again', fields);
    if (!due || leftMs >= alarmBeforeMs || alarmed) return alarmed;
    this.alarm(`The certificate ends ${this.identity.certificate.validTo} and cannot be renewed: ${error.message}`);
    return true;
  }
}
