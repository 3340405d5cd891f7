/** A data mover in memory, for tests: the data port of docs/protocol/data-mover.md with faults on demand. Not a store: it keeps stored forms in a map. */
import { randomBytes, randomInt } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import zlib from 'node:zlib';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import type { IdentityMaterial } from '../../common/tls/identity';
import type { Role } from '../../common/rpc/peer';
import { adviceNumber } from '../../common/rpc/status-details';
import { decodeHeader, encodeFrame } from '../../proto/data-mover/frame-codec';
import {
  encodeBlockList,
  encodeBlockRanges,
  newPutBitmap,
  offerBlock,
  offerDigest,
  offerEntryCount,
  setPutBit,
} from '../../proto/data-mover/frame-payloads';
import { FrameReader } from '../../proto/data-mover/frame-reader';
import { DATA_MOVER_ALPN, FrameType, PAYLOAD_SLACK_BYTES } from '../../proto/data-mover/frame-types';
import type { MoverAddress } from '../mover-client/dial-mover';
import { payloadCheck } from '../pipeline/digest';

const zeroDigest = '0'.repeat(64);

interface Stored {
  readonly codec: number;
  readonly rawLength: number;
  readonly payload: Buffer;
}

export interface DoubleDisk {
  readonly handle: number;
  readonly sizeBytes: number;
  readonly contentId: string;
  readonly map: Map<number, string>;
  committed: boolean;
}

export interface MoverDoubleOptions {
  readonly blockSizeBytes?: number;
  readonly codec?: number;
  readonly maxBatch?: number;
  /** Of its certificate; one of its own. */
  readonly authority?: Authority;
  /** What its certificate says it is; a mover. */
  readonly role?: Role;
  /** Bytes per second that it takes from probes; all that come. */
  readonly probeRate?: number;
}

export class MoverDouble {
  readonly blockSizeBytes: number;
  digestKey = randomBytes(32);
  readonly blocks = new Map<string, Stored>();
  /** What a checked read finds where another copy is bad. */
  readonly otherCopies = new Map<string, Stored>();
  disks = new Map<string, DoubleDisk>();
  readonly frames = new Map<FrameType, number>();
  readonly sockets = new Set<tls.TLSSocket>();
  /** Called with each frame before it is handled; a true answer swallows it. */
  fault: (type: FrameType, double: MoverDouble, socket: tls.TLSSocket, header: Buffer) => boolean = () => false;
  /** Bytes of all probes. */
  probedBytes = 0;
  private server!: tls.Server;
  private claims = new Map<string, tls.TLSSocket>();

  private constructor(
    readonly authority: Authority,
    private readonly options: MoverDoubleOptions,
  ) {
    this.blockSizeBytes = options.blockSizeBytes ?? 1 << 20;
  }

  static async start(options: MoverDoubleOptions = {}): Promise<MoverDouble> {
    const double = new MoverDouble(options.authority ?? (await createAuthority('test')), options);
    const identity = await issueIdentity(double.authority, { role: options.role ?? 'mover', id: 'm1' }, ['127.0.0.1']);
    double.server = tls.createServer(
      {
        key: identity.privateKeyPem,
        cert: identity.certificateChainPem,
        ca: identity.trustBundlePem,
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: 'TLSv1.3',
        ALPNProtocols: [DATA_MOVER_ALPN],
      },
      (socket) => double.serve(socket),
    );
    await new Promise<void>((resolve) => double.server.listen(0, '127.0.0.1', resolve));
    return double;
  }

  async address(): Promise<MoverAddress> {
    const { port } = this.server.address() as AddressInfo;
    const identity = await issueIdentity(this.authority, { role: 'worker', id: 'w1' }, []);
    return { endpoints: [`127.0.0.1:${port}`], serverName: '', ticket: 'ticket', identity };
  }

  /** As a mover that was killed and started again: connections cut, uncommitted disks forgotten but for the blocks that `isKept` says it has. */
  restart(isKept: (block: number) => boolean = () => false): void {
    this.takeOver(this, isKept);
    this.cut();
  }

  /** As another mover that goes on with what `from` had written down: blocks, digest key and all. */
  takeOver(from: MoverDouble, isKept: (block: number) => boolean): void {
    this.digestKey = from.digestKey;
    for (const [digest, stored] of from.blocks) this.blocks.set(digest, stored);
    for (const [id, disk] of from.disks) {
      const map = new Map([...disk.map].filter(([block, digest]) => isKept(block) && (digest === zeroDigest || this.blocks.has(digest))));
      if (disk.committed) this.disks.set(id, disk);
      else if (map.size === 0) this.disks.delete(id);
      else this.disks.set(id, { ...disk, map, handle: randomInt(1, 2 ** 31) });
    }
    this.claims = new Map();
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Content of a disk as mapped. */
  content(diskId: string, base?: Buffer): Buffer {
    const disk = this.disks.get(diskId) as DoubleDisk;
    const whole = Buffer.alloc(disk.sizeBytes);
    base?.copy(whole);
    for (const [block, digest] of disk.map) {
      const at = block * this.blockSizeBytes;
      if (digest === zeroDigest) whole.fill(0, at, Math.min(disk.sizeBytes, at + this.blockSizeBytes));
      else this.raw(digest).copy(whole, at);
    }
    return whole;
  }

  private raw(digest: string): Buffer {
    const stored = this.blocks.get(digest);
    if (!stored) throw new Error(`block ${digest} is not there`);
    return stored.codec === 1 ? zlib.zstdDecompressSync(stored.payload) : stored.payload;
  }

  private serve(socket: tls.TLSSocket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.sockets.delete(socket);
      for (const [digest, owner] of this.claims) if (owner === socket) this.claims.delete(digest);
    });
    const reader = new FrameReader({
      onFrame: (type, header, payload) => {
        this.frames.set(type, (this.frames.get(type) ?? 0) + 1);
        if (!this.fault(type, this, socket, header) && !socket.destroyed) this.handle(socket, reader, type, header, payload);
      },
    });
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
  }

  /** An identity of its CA. */
  identityOf(role: Role): Promise<IdentityMaterial> {
    return issueIdentity(this.authority, { role, id: `${role}-1` }, ['127.0.0.1']);
  }

  refuse(socket: tls.TLSSocket, sequence: number, code: string): void {
    socket.write(encodeFrame(FrameType.error, { sequence, code, message: `${code} of the double`, retry: adviceNumber('never') }));
  }

  private handle(socket: tls.TLSSocket, reader: FrameReader, type: FrameType, header: Buffer, payload: Buffer): void {
    switch (type) {
      case FrameType.hello:
        reader.maxPayloadBytes = this.blockSizeBytes + PAYLOAD_SLACK_BYTES;
        socket.write(
          encodeFrame(FrameType.welcome, {
            version: 1,
            sessionId: 's1',
            blockSizeBytes: this.blockSizeBytes,
            digestKey: this.digestKey,
            codec: this.options.codec ?? 1,
            codecLevel: 1,
            maxPutsInFlight: 8,
            maxBatch: this.options.maxBatch ?? 64,
          }),
        );
        return;
      case FrameType.openDisk: {
        const { sequence, diskId, sizeBytes, contentId = '' } = decodeHeader(type, header);
        const known = this.disks.get(diskId);
        const isSame = known !== undefined && (known.committed || known.contentId === contentId);
        const disk = isSame ? known : { handle: randomInt(1, 2 ** 31), sizeBytes, contentId, map: new Map(), committed: false };
        this.disks.set(diskId, disk);
        const { handle, committed, map } = disk;
        socket.write(encodeFrame(FrameType.diskOpened, { sequence, handle, committed, hasMapped: map.size > 0 }));
        return;
      }
      case FrameType.offer: {
        const { sequence, handle } = decodeHeader(type, header);
        const disk = this.byHandle(handle);
        if (!disk) return this.refuse(socket, sequence, 'DISK_NOT_OPEN');
        const bitmap = newPutBitmap(offerEntryCount(payload));
        for (let entry = 0; entry < offerEntryCount(payload); entry += 1) {
          const digest = offerDigest(payload, entry).toString('hex');
          disk.map.set(offerBlock(payload, entry), digest);
          if (digest === zeroDigest || this.blocks.has(digest) || this.claims.has(digest)) continue;
          this.claims.set(digest, socket);
          setPutBit(bitmap, entry);
        }
        socket.write(encodeFrame(FrameType.offerReply, { sequence }, bitmap));
        return;
      }
      case FrameType.put: {
        const put = decodeHeader(type, header);
        const digest = Buffer.from(put.digest).toString('hex');
        if (!payloadCheck(payload).equals(put.payloadCheck)) return this.refuse(socket, put.sequence, 'BLOCK_CORRUPT');
        this.blocks.set(digest, { codec: put.codec, rawLength: put.rawLength, payload: Buffer.from(payload) });
        this.claims.delete(digest);
        socket.write(encodeFrame(FrameType.putReply, { sequence: put.sequence }));
        return;
      }
      case FrameType.zero: {
        const { sequence, handle, firstBlock, blockCount } = decodeHeader(type, header);
        for (let block = firstBlock; block < firstBlock + blockCount; block += 1) this.byHandle(handle)?.map.set(block, zeroDigest);
        socket.write(encodeFrame(FrameType.zeroReply, { sequence }));
        return;
      }
      case FrameType.listMapped: {
        const { sequence, handle, firstBlock } = decodeHeader(type, header);
        const disk = this.byHandle(handle);
        if (!disk) return this.refuse(socket, sequence, 'DISK_NOT_OPEN');
        // Few at a time, so that it takes many questions, and some answers are empty.
        const nextBlock = Math.min(firstBlock + 32, Math.ceil(disk.sizeBytes / this.blockSizeBytes));
        const blocks = [...disk.map.keys()].filter((block) => block >= firstBlock && block < nextBlock).sort((a, b) => a - b);
        const ranges = encodeBlockRanges(blocks.map((block) => ({ firstBlock: block, blockCount: 1 })));
        socket.write(encodeFrame(FrameType.mapped, { sequence, nextBlock }, ranges));
        return;
      }
      case FrameType.commitDisk: {
        const { sequence, handle } = decodeHeader(type, header);
        const disk = this.byHandle(handle);
        if (!disk) return this.refuse(socket, sequence, 'DISK_NOT_OPEN');
        const missing = [...disk.map].filter(([, digest]) => digest !== zeroDigest && !this.blocks.has(digest)).map(([block]) => block);
        disk.committed = missing.length === 0;
        const answer = {
          sequence,
          indexRoot: disk.committed ? Buffer.from('root') : Buffer.alloc(0),
          storedBytes: 7,
          deduplicatedBytes: 0,
        };
        socket.write(encodeFrame(FrameType.diskCommitted, answer, encodeBlockList(missing.sort((a, b) => a - b))));
        return;
      }
      case FrameType.openImage: {
        const { sequence, diskId } = decodeHeader(type, header);
        const disk = this.disks.get(diskId);
        if (!disk) return this.refuse(socket, sequence, 'POINT_NOT_FOUND');
        const allocatedBlocks = [...disk.map.values()].filter((digest) => digest !== zeroDigest).length;
        socket.write(encodeFrame(FrameType.imageOpened, { sequence, handle: disk.handle, sizeBytes: disk.sizeBytes, allocatedBlocks }));
        return;
      }
      case FrameType.read: {
        const { sequence, handle, firstBlock, blockCount, checked } = decodeHeader(type, header);
        const disk = this.byHandle(handle) as DoubleDisk;
        const total = Math.ceil(disk.sizeBytes / this.blockSizeBytes);
        const allocated = (block: number) => (disk.map.get(block) ?? zeroDigest) !== zeroDigest;
        for (let block = firstBlock; block < firstBlock + blockCount; block += 1) {
          if (!allocated(block)) continue;
          const digest = disk.map.get(block) as string;
          const other = checked === true ? this.otherCopies.get(digest) : undefined;
          const copy = other ?? this.blocks.get(digest);
          if (!copy) throw new Error(`block ${digest} is not there`);
          const { codec, rawLength, payload: stored } = copy;
          socket.write(encodeFrame(FrameType.block, { sequence, block, digest: Buffer.from(digest, 'hex'), codec, rawLength }, stored));
        }
        let next = firstBlock + blockCount;
        while (next < total && !allocated(next)) next += 1;
        socket.write(encodeFrame(FrameType.readDone, { sequence, nextAllocatedBlock: Math.min(next, total) }));
        return;
      }
      case FrameType.probe: {
        const { sequence } = decodeHeader(type, header);
        this.probedBytes += payload.length;
        const receivedBytes = this.probedBytes;
        const answer = () => socket.write(encodeFrame(FrameType.probeReply, { sequence, receivedBytes }));
        const { probeRate } = this.options;
        if (probeRate === undefined) answer();
        else setTimeout(answer, (receivedBytes / probeRate) * 1000).unref();
        return;
      }
      case FrameType.ping:
        socket.write(encodeFrame(FrameType.pong, { sequence: decodeHeader(type, header).sequence }));
        return;
      default:
    }
  }

  private byHandle(handle: number): DoubleDisk | undefined {
    return [...this.disks.values()].find((disk) => disk.handle === handle);
  }
}
