import dgram from 'node:dgram';
import net from 'node:net';
import type { CellCode } from './cell';
import { addressesOf } from './names';
import type { NameService } from './names';
import { TimeLimit } from './time-limit';

/** Addresses of one name that are tried. */
const maxAddresses = 4;

/** An open connection and how it came about. */
export interface Reached {
  readonly kind: 'reached';
  readonly socket: net.Socket;
  readonly address: string;
  readonly localAddress: string;
  /** Of the TCP handshake: one round trip. */
  readonly latencyMs: number;
  /** Addresses of the same name that did not answer. */
  readonly passedOver: readonly Missed[];
}

/** No connection, and what that means. */
export interface Missed {
  readonly kind: 'missed';
  readonly code: CellCode;
  /** Empty when the name has none. */
  readonly address: string;
  /** The own address that would have been used; empty when there is no way at all. */
  readonly localAddress: string;
  /** What the system said. */
  readonly reason: string;
}

/** Connects to the first address of the host that answers. Never rejects. */
export async function dial(
  host: string,
  port: number,
  names: NameService,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Reached | Missed> {
  let addresses: readonly string[];
  try {
    addresses = await addressesOf(host, names);
  } catch (error) {
    return { kind: 'missed', code: 'NAME_NOT_RESOLVED', address: '', localAddress: '', reason: reasonOf(error) };
  }
  const passedOver: Missed[] = [];
  for (const address of addresses.slice(0, maxAddresses)) {
    const one = await dialAddress(address, port, timeoutMs, signal);
    if (one.kind === 'reached') return { ...one, passedOver };
    passedOver.push(one);
    if (signal.aborted) break;
  }
  return passedOver[0] ?? { kind: 'missed', code: 'NAME_NOT_RESOLVED', address: '', localAddress: '', reason: 'it has no address' };
}

function dialAddress(address: string, port: number, timeoutMs: number, signal: AbortSignal): Promise<Reached | Missed> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port });
    const end = () => {
      limit.clear();
      signal.removeEventListener('abort', abort);
      socket.removeAllListeners();
    };
    const miss = (code: CellCode, reason: string) => {
      end();
      socket.on('error', () => undefined);
      socket.destroy();
      void localAddressTowards(address, port).then((localAddress) => resolve({ kind: 'missed', code, address, localAddress, reason }));
    };
    const limit = new TimeLimit(timeoutMs, () => miss('CONNECTION_TIMED_OUT', `no answer within ${timeoutMs / 1000} s`));
    const abort = () => miss('NOT_TESTED', 'the test ended');
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', (error: NodeJS.ErrnoException) => miss(codeOf(error), reasonOf(error)));
    socket.once('connect', () => {
      end();
      const latencyMs = performance.now() - startedAt;
      resolve({ kind: 'reached', socket, address, localAddress: socket.localAddress ?? '', latencyMs, passedOver: [] });
    });
    if (signal.aborted) abort();
  });
}

/** What an error of connecting says about the way. */
function codeOf(error: NodeJS.ErrnoException): CellCode {
  switch (error.code) {
    case 'ETIMEDOUT':
      return 'CONNECTION_TIMED_OUT';
    case 'ECONNREFUSED':
      return 'CONNECTION_REFUSED';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'CONNECTION_CLOSED';
    // EACCES: a local rule or a route that prohibits.
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EHOSTDOWN':
    case 'ENETDOWN':
    case 'EADDRNOTAVAIL':
    case 'EACCES':
    case 'EPERM':
      return 'NO_ROUTE';
    default:
      return 'CONNECTION_FAILED';
  }
}

export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

/** Own address that the system would use, asked without sending anything: a datagram socket that is only connected. Empty when there is no route. */
function localAddressTowards(address: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket(net.isIPv6(address) ? 'udp6' : 'udp4');
    const end = (found: string) => {
      socket.close();
      resolve(found);
    };
    socket.once('error', () => end(''));
    socket.connect(port, address, () => {
      // Also called when there is no way, with the socket as it was.
      const own = socket.address().address;
      end(own === '0.0.0.0' || own === '::' ? '' : own);
    });
  });
}
