import tls from 'node:tls';
import { decodeHeader, encodeFrame } from '../../proto/data-mover/frame-codec';
import { decodeBlockList, decodeBlockRanges, hasPutBit, OFFER_ENTRY_BYTES, writeOfferEntry } from '../../proto/data-mover/frame-payloads';
import { FrameReader } from '../../proto/data-mover/frame-reader';
import {
  DATA_MOVER_ALPN,
  DATA_MOVER_VERSION,
  FrameType,
  PAYLOAD_SLACK_BYTES,
  type BlockFrame,
  type ErrorFrame,
  type FrameHeaders,
  type WelcomeFrame,
} from '../../proto/data-mover/frame-types';
import type { IdentityMaterial } from '../../common/tls/identity';
import { blockDigest, isZero, payloadCheck, storeForm, ZERO_DIGEST } from '../format/block';

/** An Error frame as an error. */
export class LaneError extends Error {
  constructor(readonly frame: ErrorFrame) {
    super(`${frame.code}: ${frame.message}`);
    this.name = 'LaneError';
  }
  get code(): string {
    return this.frame.code;
  }
}

type Answer = { type: FrameType; header: unknown; payload: Buffer };

/** A plain client of the data port for tests: one request at a time or many, by sequence. */
export class TestLane {
  welcome!: WelcomeFrame & { digestKey: Buffer };
  /** The Error frame with sequence 0, once it came. */
  farewell: LaneError | undefined;
  private readonly reader = new FrameReader(this);
  private readonly waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  private readonly blocks = new Map<number, { header: BlockFrame; payload: Buffer }[]>();
  private nextSequence = 1;
  readonly closed: Promise<void>;

  private constructor(readonly socket: tls.TLSSocket) {
    this.reader.maxPayloadBytes = 8 * 1024 * 1024;
    socket.on('data', (chunk: Buffer) => this.reader.push(chunk));
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    void this.closed.then(() => {
      const error = this.farewell ?? new Error('the connection was closed');
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    });
  }

  /** TLS only, no Hello. */
  static async dial(port: number, identity: IdentityMaterial, options: tls.ConnectionOptions = {}): Promise<TestLane> {
    const socket = tls.connect({
      host: '127.0.0.1',
      port,
      ca: identity.trustBundlePem,
      cert: identity.certificateChainPem,
      key: identity.privateKeyPem,
      ALPNProtocols: [DATA_MOVER_ALPN],
      minVersion: 'TLSv1.3',
      ...options,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return new TestLane(socket);
  }

  static async open(port: number, identity: IdentityMaterial, ticket: string): Promise<TestLane> {
    const lane = await TestLane.dial(port, identity);
    await lane.hello(ticket);
    return lane;
  }

  async hello(ticket: string, version = DATA_MOVER_VERSION): Promise<void> {
    const answer = this.expect(0);
    this.socket.write(encodeFrame(FrameType.hello, { version, ticket }));
    const { header } = await answer;
    const welcome = header as WelcomeFrame;
    this.welcome = { ...welcome, digestKey: Buffer.from(welcome.digestKey) };
    this.reader.maxPayloadBytes = welcome.blockSizeBytes + PAYLOAD_SLACK_BYTES;
  }

  async request<T extends FrameType>(type: T, header: Omit<FrameHeaders[T], 'sequence'>, payload?: Buffer): Promise<Answer> {
    const sequence = this.nextSequence++;
    const answer = this.expect(sequence);
    this.socket.write(encodeFrame(type, { ...header, sequence } as unknown as FrameHeaders[T], payload));
    return answer;
  }

  async openDisk(
    diskId: string,
    sizeBytes: number,
    basePointId = '',
    baseDiskId = '',
    contentId = '',
  ): Promise<{ handle: number; committed: boolean; hasMapped: boolean }> {
    const { header } = await this.request(FrameType.openDisk, { diskId, sizeBytes, basePointId, baseDiskId, contentId });
    return header as Required<FrameHeaders[typeof FrameType.diskOpened]>;
  }

  /** Blocks that are mapped, by as many questions as it takes. */
  async listMapped(handle: number, diskBlocks: number): Promise<Set<number>> {
    const mapped = new Set<number>();
    for (let next = 0; next < diskBlocks;) {
      const { header, payload } = await this.request(FrameType.listMapped, { handle, firstBlock: next });
      for (const { firstBlock, blockCount } of decodeBlockRanges(payload)) for (let i = 0; i < blockCount; i++) mapped.add(firstBlock + i);
      next = (header as FrameHeaders[typeof FrameType.mapped]).nextBlock;
    }
    return mapped;
  }

  /** Positions that are to be put. */
  async offer(handle: number, entries: readonly (readonly [block: number, digest: Buffer])[]): Promise<number[]> {
    const payload = Buffer.alloc(entries.length * OFFER_ENTRY_BYTES);
    entries.forEach(([block, digest], i) => writeOfferEntry(payload, i, block, digest));
    const answer = await this.request(FrameType.offer, { handle }, payload);
    return entries.map((_, i) => i).filter((i) => hasPutBit(answer.payload, i));
  }

  async put(digest: Buffer, codec: number, rawLength: number, payload: Buffer, check = payloadCheck(payload)): Promise<void> {
    await this.request(FrameType.put, { digest, codec, rawLength, payloadCheck: check }, payload);
  }

  async putRaw(raw: Buffer): Promise<void> {
    const { codec, payload } = storeForm(raw, 1, 1);
    await this.put(this.digestOf(raw), codec, raw.length, payload);
  }

  digestOf(raw: Buffer): Buffer {
    return isZero(raw) ? ZERO_DIGEST : blockDigest(this.welcome.digestKey, raw);
  }

  /** Offers and puts blocks; returns how many were put. */
  async send(handle: number, blocks: ReadonlyMap<number, Buffer>): Promise<number> {
    const entries = [...blocks].map(([block, raw]) => ({ block, raw, digest: this.digestOf(raw) }));
    let put = 0;
    for (let from = 0; from < entries.length; from += 64) {
      const batch = entries.slice(from, from + 64);
      const wanted = await this.offer(
        handle,
        batch.map((e) => [e.block, e.digest] as const),
      );
      put += wanted.length;
      await Promise.all(wanted.map((i) => this.putRaw((batch[i] as { raw: Buffer }).raw)));
    }
    return put;
  }

  async zero(handle: number, firstBlock: number, blockCount: number): Promise<void> {
    await this.request(FrameType.zero, { handle, firstBlock, blockCount });
  }

  async commitDisk(handle: number): Promise<FrameHeaders[typeof FrameType.diskCommitted] & { missing: number[] }> {
    const { header, payload } = await this.request(FrameType.commitDisk, { handle });
    return { ...(header as FrameHeaders[typeof FrameType.diskCommitted]), missing: decodeBlockList(payload) };
  }

  async openImage(pointId: string, diskId: string): Promise<FrameHeaders[typeof FrameType.imageOpened]> {
    return (await this.request(FrameType.openImage, { pointId, diskId })).header as FrameHeaders[typeof FrameType.imageOpened];
  }

  async read(
    handle: number,
    firstBlock: number,
    blockCount: number,
    checked = false,
  ): Promise<{ blocks: { header: BlockFrame; payload: Buffer }[]; next: number }> {
    const sequence = this.nextSequence;
    this.blocks.set(sequence, []);
    const { header } = await this.request(FrameType.read, { handle, firstBlock, blockCount, checked });
    const blocks = this.blocks.get(sequence) ?? [];
    this.blocks.delete(sequence);
    return { blocks, next: (header as FrameHeaders[typeof FrameType.readDone]).nextAllocatedBlock };
  }

  /** All that the mover counted so far. */
  async probe(payload: Buffer): Promise<number> {
    const { header } = await this.request(FrameType.probe, {}, payload);
    return (header as FrameHeaders[typeof FrameType.probeReply]).receivedBytes;
  }

  async ping(): Promise<void> {
    await this.request(FrameType.ping, {});
  }

  close(): void {
    this.socket.destroy();
  }

  onFrame(type: FrameType, headerBytes: Buffer, payload: Buffer): void {
    const header = decodeHeader(type, Buffer.from(headerBytes));
    const sequence = type === FrameType.welcome ? 0 : (header as { sequence: number }).sequence;
    if (type === FrameType.block) {
      this.blocks.get(sequence)?.push({ header: header as BlockFrame, payload: Buffer.from(payload) });
      return;
    }
    const waiting = this.waiting.get(sequence);
    this.waiting.delete(sequence);
    if (type === FrameType.error) {
      const error = new LaneError(header as ErrorFrame);
      if (sequence === 0) this.farewell = error;
      waiting?.reject(error);
    } else waiting?.resolve({ type, header, payload: Buffer.from(payload) });
  }

  private expect(sequence: number): Promise<Answer> {
    const answer = new Promise<Answer>((resolve, reject) => this.waiting.set(sequence, { resolve, reject }));
    if (this.socket.destroyed) this.waiting.get(sequence)?.reject(this.farewell ?? new Error('the connection is closed'));
    return answer;
  }
}
