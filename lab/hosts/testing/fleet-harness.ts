import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buildGuest } from '../../images/build-guest';
import type { DiskChain, HostFleet, NbdExport, Ticket, VmDisk, VmSpec, VolumeFormat } from '../driver';
import { type RunningHostFleet, createHostFleet } from '../fleet';
import { type KeyAndCertificate, createLabCa } from '../pki';

/** A fleet of one host and a proxy in a temporary directory, and a plain imageio client, for the tests of this folder. */
export const mib = 1024 * 1024;
export const hostId = 'host-1';
export const domainId = 'domain-1';

export interface FleetHarness {
  readonly directory: string;
  readonly dataDir: string;
  readonly ca: KeyAndCertificate;
  readonly fleet: RunningHostFleet;
  readonly client: ImageioClient;
  /** Another fleet over the same directory, as a restarted lab makes it; {@link close} ends its processes too. */
  reopen(): RunningHostFleet;
  close(): Promise<void>;
}

export const repositoryRoot = resolve(__dirname, '../../../..');
const guestCache = join(repositoryRoot, '.cache', 'guest');

export function openFleet(dataDir: string, ca: KeyAndCertificate): RunningHostFleet {
  return createHostFleet({
    dataDir,
    ca,
    pythonVenvDir: join(repositoryRoot, '.venv'),
    hosts: [{ id: hostId, name: 'host-1.lab', address: '127.0.0.1', port: 0 }],
    proxy: { name: 'engine.lab', address: '127.0.0.1', port: 0 },
    guest: async () => await buildGuest(guestCache),
    log: () => undefined,
  });
}

export async function startFleet(): Promise<FleetHarness> {
  const directory = await mkdtemp(join(tmpdir(), 'fleet-'));
  const dataDir = join(directory, 'data');
  const ca = await createLabCa('lab authority');
  const fleets = [openFleet(dataDir, ca)];
  const client = new ImageioClient(ca.certificatePem);
  return {
    directory,
    dataDir,
    ca,
    fleet: fleets[0]!,
    client,
    reopen: () => {
      const fleet = openFleet(dataDir, ca);
      fleets.push(fleet);
      return fleet;
    },
    close: async () => {
      client.close();
      for (const fleet of fleets.reverse()) await fleet.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export async function makeDisk(fleet: HostFleet, format: VolumeFormat, sizeBytes: number): Promise<DiskChain> {
  const volume = { domainId, diskId: randomUUID(), volumeId: randomUUID() };
  await fleet.createVolume({ ...volume, format, virtualSizeBytes: sizeBytes, sparse: true });
  return { diskId: volume.diskId, virtualSizeBytes: sizeBytes, chain: [{ ...volume, format }] };
}

export const newLeafOf = (disk: DiskChain) => ({ domainId, diskId: disk.diskId, volumeId: randomUUID() });

export function withLayer(disk: DiskChain, leaf: { domainId: string; diskId: string; volumeId: string }): DiskChain {
  return { ...disk, chain: [...disk.chain, { ...leaf, format: 'cow' }] };
}

export function vmOf(disks: readonly DiskChain[], guest: VmSpec['guest'] = 'none'): VmSpec {
  const vmDisks: VmDisk[] = disks.map((disk, index) => ({ ...disk, interface: 'virtio', bootable: index === 0, readOnly: false }));
  return { vmId: randomUUID(), name: 'vm', memoryBytes: 256 * mib, disks: vmDisks, guest, guestWritePauseMs: 50, macAddresses: [] };
}

export function ticketFor(source: Pick<NbdExport, 'url' | 'sizeBytes' | 'dirty'>, change: Partial<Ticket> = {}): Ticket {
  return {
    uuid: randomUUID(),
    sizeBytes: source.sizeBytes,
    url: source.url,
    timeoutSeconds: 300,
    inactivityTimeoutSeconds: 60,
    ops: ['read'],
    sparse: true,
    dirty: source.dirty,
    transferId: randomUUID(),
    ...change,
  };
}

export interface Extent {
  readonly start: number;
  readonly length: number;
  readonly zero: boolean;
  readonly hole?: boolean;
  readonly dirty?: boolean;
}

export class ImageioClient {
  readonly #agent: Agent;

  constructor(certificatePem: string) {
    this.#agent = new Agent({ ca: certificatePem, keepAlive: false });
  }

  async call(
    method: string,
    url: string,
    headers: Record<string, string> = {},
    body?: Buffer | string,
  ): Promise<{ status: number; body: Buffer }> {
    return await new Promise((resolvePromise, reject) => {
      const outgoing = request(url, { method, headers, agent: this.#agent, signal: AbortSignal.timeout(120_000) }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolvePromise({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.on('error', reject);
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  async extents(url: string, context: 'zero' | 'dirty'): Promise<Extent[]> {
    const { status, body } = await this.call('GET', `${url}/extents?context=${context}`);
    if (status !== 200) throw new Error(`extents: ${status} ${body.toString()}`);
    return JSON.parse(body.toString()) as Extent[];
  }

  /** Applies what a backup client would: full extents make the file, dirty ones change it. Returns the bytes read. */
  async download(url: string, context: 'zero' | 'dirty', file: string): Promise<number> {
    const handle = await open(file, context === 'zero' ? 'w' : 'r+');
    let readBytes = 0;
    try {
      for (const extent of await this.extents(url, context)) {
        const end = extent.start + extent.length;
        if (context === 'zero') await handle.truncate(end);
        if (context === 'dirty' && extent.dirty !== true) continue;
        for (let offset = extent.start; offset < end; offset += 4 * mib) {
          const length = Math.min(4 * mib, end - offset);
          if (extent.zero) {
            if (context === 'dirty') await handle.write(Buffer.alloc(length), 0, length, offset);
            continue;
          }
          const { status, body } = await this.call('GET', url, { range: `bytes=${offset}-${offset + length - 1}` });
          if (status !== 206 || body.length !== length) throw new Error(`GET: ${status} with ${body.length} of ${length} bytes`);
          await handle.write(body, 0, length, offset);
          readBytes += length;
        }
      }
    } finally {
      await handle.close();
    }
    return readBytes;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** A program of this machine, which must succeed. */
export function runProgram(program: string, args: readonly string[], directory?: string): void {
  execFileSync(program, args, { stdio: 'ignore', ...(directory === undefined ? {} : { cwd: directory }) });
}

export async function waitUntil(what: string, condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Timed out: ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}
