import net from 'node:net';
import type { CellCode, Check } from './cell';

/** Both ends of a way that was looked at. */
export interface Way {
  readonly check: Check;
  /** Name for people; may be empty. */
  readonly name: string;
  readonly host: string;
  /** The address tried; empty when the name has none. */
  readonly address: string;
  readonly port: number;
  /** Own address; empty when there is no way at all. */
  readonly localAddress: string;
}

/** What listens at the other end, in the words of whoever runs it. */
const services: Partial<Record<Check, string>> = {
  engine: "the engine's web server (httpd)",
  host: 'ovirt-imageio',
  proxy: "the engine's ovirt-imageio",
  mover: '"tidemark mover"',
  throughput: '"tidemark mover"',
};

/** How to get the peer a certificate that does. */
const renewals: Partial<Record<Check, string>> = {
  engine: 'Renew the certificate of the engine (engine-setup), or give the platform the CA that signed it',
  host: 'Put the host into maintenance in the engine and choose "Enroll Certificate"',
  proxy: 'Renew the certificates of the engine (engine-setup)',
  mover: 'Let the mover enrol again ("tidemark mover enrol")',
};

export function peerOf({ name, host, address }: Way): string {
  const label = name === '' ? host : name;
  return address === '' || address === label ? label : `${label} (${address})`;
}

export function ownOf({ localAddress }: Way): string {
  return localAddress === '' ? 'this worker' : `${localAddress} (this worker)`;
}

/** What to open or fix, naming port, direction and both ends. `reason` is what the system or the peer said. */
export function adviceFor(code: CellCode | '', way: Way, reason: string): string {
  const service = services[way.check] ?? 'the service';
  const peer = peerOf(way);
  const own = ownOf(way);
  const open = `Open TCP ${way.port} from ${own} to ${peer}`;
  switch (code) {
    case '':
    case 'NOT_TESTED':
    case 'MOVER_BUSY':
      return '';
    case 'CONNECTION_TIMED_OUT':
      return `${open}: what is sent there is dropped on the way by a firewall, or the machine is off.`;
    case 'CONNECTION_REFUSED':
      return `Start ${service} on ${peer}: nothing listens on TCP ${way.port} there. If it runs, a firewall rejects the connection: ${lower(open)}.`;
    case 'NO_ROUTE':
      return `Give this worker a way to ${peer}: a NIC in the right network, or a gateway or route in its settings. If it has one, a router on the way rejects: ${lower(open)}.`;
    case 'CONNECTION_CLOSED':
      return `Look at ${service} on ${peer}, and for a filter on the way from ${own} that cuts connections to TCP ${way.port}: the connection opens and is closed at once.`;
    case 'CONNECTION_FAILED':
      return `Look at the network of this worker: the connection from ${own} to TCP ${way.port} of ${peer} failed with ${reason}.`;
    case 'NAME_NOT_RESOLVED':
      return net.isIP(way.host)
        ? `Give ${peer} an address.`
        : `Add ${way.host} to the DNS that this worker uses, or choose other DNS servers in its settings; it cannot reach TCP ${way.port} of ${peer} without an address.`;
    case 'TLS_TIMED_OUT':
      return `Check the MTU between ${own} and ${peer} and that ${service} is not stuck: TCP ${way.port} opens, but no TLS comes about.`;
    case 'TLS_FAILED':
      return `Check what listens on TCP ${way.port} of ${peer}: it does not speak the TLS of ${service} (${reason}).`;
    case 'CERTIFICATE_REFUSED':
      return `${renewals[way.check] ?? 'Renew its certificate'}: the certificate that ${peer} shows on TCP ${way.port} is not signed by the CA that is trusted here (${reason}). A TLS inspector on the way from ${own} shows one of its own too.`;
    case 'CERTIFICATE_NAME_DIFFERS':
      return `${renewals[way.check] ?? 'Renew its certificate'}: the certificate that ${peer} shows on TCP ${way.port} is for ${reason}, not for ${way.host}. Or something else answers at this address.`;
    case 'CERTIFICATE_EXPIRED':
      return `${renewals[way.check] ?? 'Renew its certificate'}: the certificate that ${peer} shows on TCP ${way.port} was valid until ${reason}.`;
    case 'CERTIFICATE_NOT_YET_VALID':
      return `Set the clock of the machine that issued it, then: ${lower(renewals[way.check] ?? 'renew its certificate')}. The certificate that ${peer} shows on TCP ${way.port} is valid from ${reason}.`;
    case 'CERTIFICATE_ENDS_SOON':
      return `${renewals[way.check] ?? 'Renew its certificate'} soon.`;
    case 'OWN_CERTIFICATE_REFUSED':
      return `Wait until the CA of the installation has reached the mover ("tidemark cert list"), or let this worker enrol again: ${peer} does not take the certificate of this worker (${reason}).`;
    case 'ROLE_REFUSED':
      return `Check the address: what answers on TCP ${way.port} of ${peer} is not a mover of this installation, or does not take workers (${reason}).`;
    case 'MOVER_REFUSED':
      return `Look at the log of ${service} on ${peer}: it refused this worker (${reason}).`;
    case 'MOVER_NOT_MEASURABLE':
      return `Upgrade the mover on ${peer}; the way to it is open, but it does not take a ticket that only measures (${reason}).`;
    default:
      return '';
  }
}

/** When the peer is right and this machine's clock is not. */
export function clockAdvice(skewMs: number): string {
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  return `Set the clock of this worker, which is ${seconds} s ${skewMs > 0 ? 'ahead' : 'behind'}: give it NTP servers that it reaches on UDP 123. The certificate is good by the plug-in's clock.`;
}

function lower(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1);
}
