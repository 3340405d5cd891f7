import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Server } from '@grpc/grpc-js';
import { loggerTo } from '../../common/log/logger';
import { RpcClient } from '../../common/rpc/call';
import { mutualClientCredentials, mutualServerCredentials } from '../../common/tls/credentials';
import { enrol } from '../../common/tls/enrolment';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import { ownLoopback } from '../../common/testing/loopback';
import { loadService } from '../../proto/loader';

export const quiet = loggerTo(() => undefined);
export const serveOptions = (domain: string) => ({ logger: quiet, domain });

const enrolmentService = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;

/** Enrols like a stranger would; the identity lives in a folder of its own that is removed at once, since it is kept in memory. */
export async function enrolStranger(enrolmentEndpoint: string, token: string): Promise<ProcessIdentity> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-fake-'));
  try {
    return await enrol({
      endpoint: enrolmentEndpoint,
      token,
      server: 'host',
      process: { instanceId: 'fake', hostName: 'fake-host', version: '0' },
      addresses: ['localhost', '127.0.0.1', ownLoopback],
      identityFolder: folder,
      apply: async (credentials, application) => {
        const client = new RpcClient<EnrolmentServiceDefinition>(enrolmentService, enrolmentEndpoint, credentials);
        try {
          return (await client.call('Enrol', { application }, quick)).certificate;
        } finally {
          client.close();
        }
      },
    });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** A client of one of the host's services. */
export function hostClient<S>(file: string, name: string, endpoint: string, identity: ProcessIdentity): RpcClient<S> {
  const definition = loadService(`tidemark/host/v1/${file}.proto`, `tidemark.host.v1.${name}`).service;
  return new RpcClient<S>(definition, endpoint, mutualClientCredentials(identity, 'host'));
}

/** Binds a server for mutual TLS on a free port of loopback. */
export function bind(server: Server, identity: ProcessIdentity): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', mutualServerCredentials(identity), (error, port) => (error ? reject(error) : resolve(port)));
  });
}

/** For calls that are answered at once, by a machine that may stall. */
export const quick = { deadlineMs: 60_000 };

/** Keeps a registration alive until stopped; the host may come and go. Nothing is said to it any more once the stop has resolved. */
export function keepRegistered<S>(
  connect: () => RpcClient<S>,
  register: (client: RpcClient<S>) => Promise<() => Promise<void>>,
): { stop(): Promise<void> } {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let heartbeat: (() => Promise<void>) | undefined;
  const client = connect();
  const turn = async (): Promise<void> => {
    try {
      if (heartbeat) await heartbeat();
      else heartbeat = await register(client);
    } catch {
      // The host is away, or forgot us: register anew.
      heartbeat = undefined;
    }
    if (!stopped) timer = setTimeout(() => void (running = turn()), heartbeat ? 500 : 50);
  };
  let running = turn();
  return {
    stop: async () => {
      stopped = true;
      clearTimeout(timer);
      await running;
      client.close();
    },
  };
}

/** Polls until something holds. */
export async function until<T>(what: () => Promise<T | undefined | false> | T | undefined | false, timeoutMs = 120_000): Promise<T> {
  for (const end = Date.now() + timeoutMs; ;) {
    const found = await what();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error('did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
