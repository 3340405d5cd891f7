import { roleCheck } from '../../common/tls/credentials';
import { splitEndpoint } from '../../common/tls/enrolment';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { IdentityMaterial } from '../../common/tls/identity';
import { DATA_MOVER_ALPN, DATA_MOVER_CIPHERS } from '../../proto/data-mover/frame-types';
import { peerOf } from './advice';
import type { Way } from './advice';
import type { Cell, CellCode } from './cell';
import { dial, reasonOf } from './dial';
import type { Reached } from './dial';
import { certificateCell, missedCell, told } from './endpoint-check';
import type { Surroundings } from './endpoint-check';
import { isOwnRefused, secure } from './handshake';
import type { Secured } from './handshake';
import { ProbeConnection } from './probe-connection';

export interface MoverTarget {
  /** host:port, best first. */
  readonly endpoints: readonly string[];
  readonly name: string;
  /** In its certificate, when it differs from the endpoint's host. */
  readonly serverName: string;
  readonly ticket: string;
  readonly identity: IdentityMaterial;
}

/** What the look at a mover came to: the cell, and where it can be measured. */
export interface MoverLook {
  readonly cell: Cell;
  readonly endpoint: string;
  readonly measurable: boolean;
}

const sampleBytes = 64 * 1024 * 1024;
const sampleLimitMs = 15_000;
/** Less than a tenth of what a gigabit network carries. */
const lowBytesPerSecond = 10 * 1000 * 1000;

/** A mover or gateway: its first endpoint that answers, as a task would go there: own certificate, Hello with the ticket. */
export async function moverLook(target: MoverTarget, around: Surroundings): Promise<MoverLook> {
  const looks: MoverLook[] = [];
  for (const endpoint of target.endpoints) {
    const look = await lookAt(target, endpoint, around);
    if (!around.signal.aborted && isUnreached(look.cell.code) && looks.length + 1 < target.endpoints.length) {
      looks.push(look);
      continue;
    }
    return looks.length === 0 || isUnreached(look.cell.code) ? (looks[0] ?? look) : afterOthers(look, looks);
  }
  throw new RangeError('a mover without endpoints');
}

/** 64 MiB to a mover that was reached. */
export async function throughputCell(target: MoverTarget, endpoint: string, around: Surroundings): Promise<Cell> {
  const named = { check: 'throughput' as const, endpoint, name: target.name };
  const opened = await open(target, endpoint, around);
  const { way } = opened;
  if (opened.kind === 'failed') return { ...opened.cell, check: 'throughput' };
  const { connection } = opened;
  const abort = () => connection.close();
  around.signal.addEventListener('abort', abort, { once: true });
  try {
    const { bytes, elapsedMs } = await connection.measure(sampleBytes, sampleLimitMs);
    const bytesPerSecond = bytes / (elapsedMs / 1000);
    const rate = `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
    const cell: Cell = {
      check: 'throughput',
      target: endpoint,
      targetName: target.name,
      verdict: 'passed',
      detail: `${Math.round(bytes / 1024 / 1024)} MiB to ${peerOf(way)} in ${(elapsedMs / 1000).toFixed(1)} s, ${rate}`,
      advice: '',
      code: '',
      bytesPerSecond,
      localAddress: way.localAddress,
      latencyMs: opened.reached.latencyMs,
    };
    if (bytesPerSecond >= lowBytesPerSecond) return cell;
    const advice = `Look at the network between ${way.localAddress} (this worker) and ${peerOf(way)}: wrong NIC, MTU, a loaded firewall or a slow line. Backups cannot be faster than this.`;
    return { ...cell, verdict: 'warning', code: 'THROUGHPUT_LOW', advice };
  } catch (error) {
    return told(named, way, refusal(error));
  } finally {
    around.signal.removeEventListener('abort', abort);
    connection.close();
  }
}

async function lookAt(target: MoverTarget, endpoint: string, around: Surroundings): Promise<MoverLook> {
  const opened = await open(target, endpoint, around);
  if (opened.kind === 'failed') return { cell: opened.cell, endpoint, measurable: false };
  opened.connection.close();
  const named = { check: 'mover' as const, endpoint, name: target.name };
  return { cell: certificateCell(named, opened.way, opened.reached, opened.secured, around), endpoint, measurable: true };
}

type Opened =
  | { readonly kind: 'failed'; readonly cell: Cell; readonly way: Way }
  | {
      readonly kind: 'open';
      readonly connection: ProbeConnection;
      readonly way: Way;
      readonly reached: Reached;
      readonly secured: Secured;
    };

async function open(target: MoverTarget, endpoint: string, around: Surroundings): Promise<Opened> {
  const { host, port } = splitEndpoint(endpoint);
  const named = { check: 'mover' as const, endpoint, name: target.name };
  const { names, timeoutMs, signal } = around;
  const reached = await dial(host, port, names, timeoutMs, signal);
  const way: Way = { check: 'mover', name: target.name, host, port, address: reached.address, localAddress: reached.localAddress };
  if (reached.kind === 'missed') return { kind: 'failed', way, cell: missedCell(named, way, reached) };
  const { latencyMs } = reached;
  const failed = (code: CellCode, reason: string): Opened => ({ kind: 'failed', way, cell: told(named, way, { code, reason, latencyMs }) });
  const serverName = target.serverName === '' ? host : target.serverName;
  const { identity } = target;
  const more = {
    cert: identity.certificateChainPem,
    key: identity.privateKeyPem,
    ALPNProtocols: [DATA_MOVER_ALPN],
    ciphers: DATA_MOVER_CIPHERS,
    minVersion: 'TLSv1.3' as const,
  };
  const secured = await secure(reached.socket, { serverName, caPem: identity.trustBundlePem, timeoutMs, more }, signal);
  if (secured.kind === 'not secured') return failed(secured.code, secured.reason);
  const cell = certificateCell(named, way, reached, secured, around);
  if (cell.verdict === 'failed') {
    secured.socket.destroy();
    return { kind: 'failed', way, cell };
  }
  const mismatch = secured.certificate ? roleCheck('mover')(serverName, secured.certificate.toLegacyObject()) : undefined;
  if (mismatch) {
    secured.socket.destroy();
    return failed('ROLE_REFUSED', mismatch.message);
  }
  try {
    return {
      kind: 'open',
      way,
      reached,
      secured,
      connection: await ProbeConnection.open(secured.socket, endpoint, target.ticket, timeoutMs),
    };
  } catch (error) {
    const { code, reason } = refusal(error);
    const cell = told(named, way, { code, reason, latencyMs });
    // The way is open, which is what was asked; that it could not be measured is another matter.
    return { kind: 'failed', way, cell: isOpenWay(code) ? { ...cell, verdict: 'warning' } : cell };
  }
}

/** What a mover's refusal means for backups. */
function refusal(error: unknown): { code: CellCode; reason: string } {
  if (!isTidemarkError(error)) return { code: 'TLS_FAILED', reason: reasonOf(error) };
  const reason = error.code === 'MOVER_CONNECTION_LOST' ? String(error.meta['reason']) : `${error.code}: ${error.message}`;
  switch (error.code) {
    case 'TOO_MANY_CONNECTIONS':
      return { code: 'MOVER_BUSY', reason };
    // A mover of the version before does not know the right to probe, and looks for the ticket's session.
    case 'TICKET_INVALID':
    case 'TICKET_RIGHT_MISSING':
      return { code: 'MOVER_NOT_MEASURABLE', reason };
    case 'ROLE_NOT_ALLOWED':
      return { code: 'ROLE_REFUSED', reason };
    case 'CERTIFICATE_REQUIRED':
      return { code: 'OWN_CERTIFICATE_REFUSED', reason };
    case 'MOVER_CONNECTION_LOST':
      // In TLS 1.3 a server's opinion of the client's certificate comes after the handshake: as an alert, or by hanging up.
      if (isOwnRefused(reason) || reason === 'the mover closed it' || reason === 'ECONNRESET')
        return { code: 'OWN_CERTIFICATE_REFUSED', reason };
      return { code: 'CONNECTION_CLOSED', reason };
    default:
      return { code: 'MOVER_REFUSED', reason };
  }
}

function isOpenWay(code: CellCode): boolean {
  return code === 'MOVER_BUSY' || code === 'MOVER_NOT_MEASURABLE';
}

/** The next endpoint is tried only where this one is out of reach, as tasks do it. */
function isUnreached(code: Cell['code']): boolean {
  return ['NAME_NOT_RESOLVED', 'CONNECTION_TIMED_OUT', 'CONNECTION_REFUSED', 'CONNECTION_CLOSED', 'NO_ROUTE', 'CONNECTION_FAILED'].includes(
    code,
  );
}

function afterOthers(look: MoverLook, missed: readonly MoverLook[]): MoverLook {
  const [first] = missed as [MoverLook];
  if (look.cell.verdict !== 'passed') return look;
  const detail = `${look.cell.detail}; before it ${missed.map((one) => one.endpoint).join(', ')} could not be reached`;
  return { ...look, cell: { ...look.cell, verdict: 'warning', detail, code: first.cell.code, advice: first.cell.advice } };
}
