/**
 * The way from the plug-in to an image that the image service serves: straight to the host, else through the engine's proxy. Workers move
 * the bytes of backups; this is for what the plug-in does itself. The transfer's path is its authorisation and is never logged.
 */
import { Client } from 'undici';
import { CommonErrors } from '../../common/errors/common-errors';

export interface ImageAddresses {
  /** Secrets. Either may be empty. */
  readonly transferUrl: string;
  readonly proxyUrl: string;
  readonly caPem: string;
}

/** One connection. The engine cannot end a transfer while one is open: destroy the client first. */
export interface ImageWay {
  readonly client: Client;
  readonly path: string;
}

export interface ReachTimeouts {
  readonly connectMs: number;
  /** Until the head of an answer, and between two parts of its body. */
  readonly answerMs: number;
}

/** The way that answers first, or why there is none. Throws CANCELLED. `what` names the work for people. */
export async function reachImage(
  addresses: ImageAddresses,
  timeouts: ReachTimeouts,
  what: string,
  signal: AbortSignal,
): Promise<{ readonly way: ImageWay } | { readonly problem: string }> {
  const problems: string[] = [];
  for (const url of [addresses.transferUrl, addresses.proxyUrl]) {
    if (url === '') continue;
    const { origin, pathname, host } = new URL(url);
    const client = new Client(origin, {
      connect: { ca: addresses.caPem, timeout: timeouts.connectMs },
      headersTimeout: timeouts.answerMs,
      bodyTimeout: timeouts.answerMs,
      pipelining: 1,
    });
    try {
      const { statusCode, body } = await client.request({ method: 'OPTIONS', path: pathname, signal });
      await body.dump();
      if (statusCode === 200) return { way: { client, path: pathname } };
      problems.push(`${host} answers ${statusCode}`);
    } catch (error) {
      if (signal.aborted) throw CommonErrors.CANCELLED({ what }, { cause: error });
      problems.push(`${host}: ${problemOf(error)}`);
    }
    await client.destroy();
  }
  return { problem: problems.join('; ') || 'the engine gave no address' };
}

/** A code where there is one: messages of connections may hold paths. */
export function problemOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === 'string' ? code : typeof message === 'string' ? message : 'it broke off';
}
