import { splitEndpoint } from '../../common/tls/enrolment';
import { adviceFor, clockAdvice, ownOf, peerOf } from './advice';
import type { Way } from './advice';
import type { Cell, Check } from './cell';
import { dial } from './dial';
import type { Missed, Reached } from './dial';
import { judgeCertificate, secure } from './handshake';
import type { CertificateJudgement, Secured } from './handshake';
import type { NameService } from './names';

/** What looks at a target share. */
export interface Surroundings {
  readonly names: NameService;
  /** How far this clock is ahead of the plug-in's. */
  readonly skewMs: number;
  now(): number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface EndpointTarget {
  readonly check: Check;
  /** host:port. */
  readonly endpoint: string;
  readonly name: string;
  readonly caPem: string;
}

/** The engine, a host's image daemon, or the engine's image proxy: TCP, TLS, and the certificate where its CA is known. */
export async function endpointCell(target: EndpointTarget, around: Surroundings): Promise<Cell> {
  const { host, port } = splitEndpoint(target.endpoint);
  const reached = await dial(host, port, around.names, around.timeoutMs, around.signal);
  const way: Way = { check: target.check, name: target.name, host, port, address: reached.address, localAddress: reached.localAddress };
  if (reached.kind === 'missed') return missedCell(target, way, reached);
  const { signal, timeoutMs } = around;
  const secured = await secure(reached.socket, { serverName: host, caPem: target.caPem, timeoutMs }, signal);
  if (secured.kind === 'not secured')
    return told(target, way, { code: secured.code, reason: secured.reason, latencyMs: reached.latencyMs });
  secured.socket.destroy();
  return certificateCell(target, way, reached, secured, around);
}

/** What a good connection and its certificate come to. */
export function certificateCell(
  target: Pick<EndpointTarget, 'check' | 'endpoint' | 'name'>,
  way: Way,
  reached: Reached,
  secured: Secured,
  around: Pick<Surroundings, 'skewMs' | 'now'>,
): Cell {
  const judged = judgeCertificate(secured, around.skewMs, around.now());
  const connected = `connected to ${peerOf(way)} in ${reached.latencyMs.toFixed(0)} ms`;
  const cell: Cell = {
    check: target.check,
    target: target.endpoint,
    targetName: target.name,
    verdict: 'passed',
    detail: `${connected}${certificateDetail(judged)}`,
    advice: '',
    code: '',
    latencyMs: reached.latencyMs,
    localAddress: way.localAddress,
  };
  if (judged.code !== '') {
    const advice = judged.onlyClock ? clockAdvice(around.skewMs) : adviceFor(judged.code, way, judged.reason);
    const verdict = judged.code === 'CERTIFICATE_ENDS_SOON' ? 'warning' : 'failed';
    return informed({ ...cell, verdict, code: judged.code, advice });
  }
  const [missed] = reached.passedOver;
  if (!missed) return informed(cell);
  // It works, after a wait at each connection.
  const other = { ...way, address: missed.address, localAddress: missed.localAddress };
  const detail = `${cell.detail}; ${missed.address} did not answer (${missed.reason})`;
  return informed({ ...cell, verdict: 'warning', detail, code: missed.code, advice: adviceFor(missed.code, other, missed.reason) });
}

/** A target that cannot be reached at all. */
export function missedCell(target: Pick<EndpointTarget, 'check' | 'endpoint' | 'name'>, way: Way, missed: Missed): Cell {
  return told(target, way, { code: missed.code, reason: missed.reason });
}

/** A failed cell in the words of its code. */
export function told(
  target: Pick<EndpointTarget, 'check' | 'endpoint' | 'name'>,
  way: Way,
  failure: { readonly code: Exclude<Cell['code'], ''>; readonly reason: string; readonly latencyMs?: number },
): Cell {
  const { code, reason, latencyMs } = failure;
  return informed({
    check: target.check,
    target: target.endpoint,
    targetName: target.name,
    // What was not looked at is neither good nor bad.
    verdict: code === 'NOT_TESTED' ? 'warning' : 'failed',
    detail: `${latencyMs === undefined ? 'no connection' : `connected in ${latencyMs.toFixed(0)} ms, then not usable`} from ${ownOf(way)} to TCP ${way.port} of ${peerOf(way)}: ${reason}`,
    advice: adviceFor(code, way, reason),
    code,
    ...(latencyMs === undefined ? {} : { latencyMs }),
    localAddress: way.localAddress,
  });
}

/** The proxy explains much and is needed for nothing. */
function informed(cell: Cell): Cell {
  return cell.check === 'proxy' ? { ...cell, verdict: 'info' } : cell;
}

function certificateDetail({ code, daysLeft, reason }: CertificateJudgement): string {
  if (daysLeft === undefined) return '';
  if (code === '' || code === 'CERTIFICATE_ENDS_SOON') return `, certificate valid for ${daysLeft} days`;
  return `, certificate not accepted: ${reason}`;
}
