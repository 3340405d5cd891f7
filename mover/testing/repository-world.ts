/**
 * A repository on which several movers work, collide and die, beside a simple model of what must be in it: points with a number per block. After
 * every step all points of the model have to be there, bit for bit. Everything follows from a seed, but for what runs side by side.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { CollectProgress } from '../maintenance/collect/collect-progress';
import type { CollectSettings } from '../maintenance/collect/collect-settings';
import { sessionName } from '../format/session-record';
import { readSession, sessionIds } from '../maintenance/collect/session-records';
import { Maintenance } from '../maintenance/maintenance';
import { Verifier } from '../maintenance/verifier';
import { parseLease } from '../repository/sharing/lease-object';
import type { DiskDraft } from '../sessions/disk-draft';
import type { Session } from '../sessions/session';
import { randomFrom, sampleBlock } from './test-disk';
import { quiet, TestRepository, type TestRepositoryOptions } from './test-repository';

const blockSize = 65_536;
/** Two leaf pages and a root. */
const diskBlocks = 300;
const sizeBytes = diskBlocks * blockSize;
const minute = 60_000;
const hour = 60 * minute;

/** Block to seed of its content; absent: zero. */
type Content = ReadonlyMap<number, number>;

interface ModelPoint {
  readonly content: Content;
  /** `unsure`: the mover died while it made, removed or took it back. */
  state: 'live' | 'removed' | 'unsure';
}

/** A backup that is not committed yet. */
interface Held {
  readonly session: Session;
  readonly draft: DiskDraft;
  readonly content: Map<number, number>;
  readonly owner: object;
}

export interface WorldOptions {
  readonly seed: number;
  /** Absent: in the clear. */
  readonly key?: TestRepositoryOptions['key'];
  readonly settings?: Partial<CollectSettings>;
}

/** One mover's process. */
class Actor {
  test: TestRepository | undefined;
  held: Held[] = [];
  /** Steps to go until it dies; 0: it lives. */
  fuse = 0;
  isDead = false;

  constructor(readonly name: string) {}

  /** Before anything that is left on the disk. */
  step(): void {
    if (this.fuse > 0 && --this.fuse === 0) this.isDead = true;
    if (this.isDead) throw Object.assign(new Error('killed'), { code: 'EIO' });
  }
}

const blocks = new Map<number, Buffer>();

function blockOf(seed: number): Buffer {
  let block = blocks.get(seed);
  if (!block) blocks.set(seed, (block = sampleBlock(seed, blockSize)));
  return block;
}

export class RepositoryWorld {
  readonly points = new Map<string, ModelPoint>();
  /** What happened, for whoever has to understand a failure. */
  readonly log: string[] = [];
  readonly counts = new Map<string, number>();
  private readonly actors = [new Actor('mover-a'), new Actor('mover-b')];
  private readonly random: () => number;
  private readonly maintenance: Maintenance;
  /** Places in packs that were read, with the seed of what was there. */
  private readonly places = new Map<string, number>();
  private clockMs = 0;
  private checks = 0;
  private someoneDied = false;
  /** Something of maintenance was damaged since a collection last ended well. */
  private isDamaged = false;
  private unique = 1000;

  private constructor(
    private readonly folder: string,
    private readonly options: WorldOptions,
  ) {
    this.random = randomFrom(options.seed);
    const settings = { packAgeMs: this.random() < 0.5 ? hour : 0, reserveBytes: 0, acknowledgeWaitMs: 0, ...options.settings };
    this.maintenance = new Maintenance(quiet, { settings, now: () => Date.now() + this.clockMs });
  }

  /** Makes a repository in an empty folder. */
  static async make(folder: string, options: WorldOptions): Promise<RepositoryWorld> {
    const world = new RepositoryWorld(folder, options);
    for (const actor of world.actors) await world.opened(actor);
    return world;
  }

  /** One step, and a look at everything after it. */
  async step(): Promise<void> {
    const dice = this.random();
    if (dice < 0.12) await this.collide();
    else if (dice < 0.3) await this.crash();
    else if (dice < 0.36) await this.restart(this.anyActor());
    else if (dice < 0.46) this.clockMs += this.random() < 0.5 ? 10 * minute : 30 * hour;
    else if (dice < 0.48) this.damage();
    else await this.act(this.anyActor(), this.anyWork());
    await this.check();
  }

  /** Ends what is open and collects until nothing more is found; resolves with the bytes of blocks in packs and those of them that are needed. */
  async settle(): Promise<{ storedBytes: number; neededBytes: number; leftovers: string[] }> {
    for (const actor of this.actors) {
      // What an earlier life left unfinished is cleared away by the next.
      await this.stop(actor, true);
      const test = await this.opened(actor);
      for (const id of await sessionIds(test.repository)) {
        const record = (await readSession(test.repository, sessionName(id)))?.content;
        if (record?.state === 'open' && record.owner === actor.name) await test.sessions.find(id)?.abort('test');
      }
      await test.repository.acknowledge();
    }
    for (let round = 0; ; round++) {
      this.clockMs += 48 * hour;
      for (const actor of this.actors) await (await this.opened(actor)).repository.acknowledge();
      const { totals } = await this.collect(await this.opened(this.actors[round % 2] as Actor), false);
      if (totals.condemnedPacks + totals.deletedPacks + totals.rewrittenPacks + totals.waitingCollections === 0) break;
      if (round === 20) throw new Error(`the collection finds no end: ${JSON.stringify(totals)}`);
    }
    await this.check(true);
    const { repository } = await this.opened(this.actors[0] as Actor);
    let storedBytes = 0;
    for (const id of repository.index.packs.ids())
      for (const entry of (await repository.index.readList(id)).entries) storedBytes += entry.storedLength;
    return { storedBytes, neededBytes: await this.neededBytes(), leftovers: this.leftovers() };
  }

  async close(): Promise<void> {
    for (const actor of this.actors) await this.stop(actor, true);
  }

  /** Every point of the model is there for each mover that runs, nothing else is, and they are whole for one of these, in turns, or (everything) for all. */
  async check(everything = false): Promise<void> {
    if (everything) this.places.clear();
    this.checks++;
    const packs = new Set(this.files('packs'));
    const running = this.actors.filter((actor) => actor.test);
    for (const [i, actor] of running.entries()) {
      if (!actor.test) continue;
      const { repository } = actor.test;
      await repository.refresh();
      // A mover that dies may not have told of what it did.
      if (this.someoneDied || [...this.points.values()].some(({ state }) => state === 'unsure')) await repository.points.reload();
      this.ascertain(actor.test);
      const expected = [...this.points].filter(([, { state }]) => state === 'live').map(([id]) => id);
      this.assertSame(new Set(repository.points.ids()), new Set(expected), 'points');
      if (everything || i === this.checks % running.length) for (const id of expected) await this.checkPoint(actor.test, id, packs);
    }
    this.someoneDied = false;
  }

  private async checkPoint(test: TestRepository, pointId: string, packs: ReadonlySet<string>): Promise<void> {
    const { content } = this.points.get(pointId) as ModelPoint;
    const tree = test.repository.tree((await test.repository.points.readDisk(pointId, 'disk')).disk);
    const found = new Set<number>();
    for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1)) {
      found.add(block);
      const digest = await tree.blockDigest(block);
      const seed = content.get(block) ?? 0;
      if (this.isRead(test, digest, seed, packs)) continue;
      const { location, raw } = await test.repository.blocks.readChecked(digest);
      if (!raw.equals(blockOf(seed))) throw this.failure(`block ${block} of point ${pointId} is another one`);
      this.places.set(`${test.repository.index.packNameOf(location)} ${location.offset}`, seed);
    }
    this.assertSame(found, new Set(content.keys()), `blocks of ${pointId}`);
  }

  /** True when the place where a block would be read from was read before and is still there: packs do not change. */
  private isRead(test: TestRepository, digest: Buffer, seed: number, packs: ReadonlySet<string>): boolean {
    const { index } = test.repository;
    const location = index.find(digest);
    if (!location) return false;
    const name = index.packNameOf(location);
    return packs.has(name) && this.places.get(`${name} ${location.offset}`) === seed;
  }

  /** Finds out what became of what a dying mover was doing. */
  private ascertain({ repository }: TestRepository): void {
    for (const [id, point] of this.points) {
      if (point.state !== 'unsure') continue;
      if (repository.points.has(id)) point.state = 'live';
      else if (repository.points.tombstones.has(id)) point.state = 'removed';
      else this.points.delete(id);
      this.tell(`${repository.writerId} finds ${id} ${this.points.get(id)?.state ?? 'absent'}`);
    }
  }

  private anyWork(): (test: TestRepository, actor: Actor) => Promise<void> {
    const dice = this.random();
    if (dice < 0.28) return (test) => this.backup(test);
    if (dice < 0.38) return (test, actor) => this.hold(test, actor);
    if (dice < 0.48) return (test, actor) => this.resume(test, actor);
    if (dice < 0.6) return (test) => this.remove(test);
    if (dice < 0.66) return (test) => this.undoRemove(test);
    if (dice < 0.7) return async (test) => void (await this.collect(test, false, Math.floor(this.random() * 20)));
    if (dice < 0.88) return async (test) => void (await this.collect(test, this.random() < 0.1));
    if (dice < 0.91) return (test) => this.undoCollect(test);
    if (dice < 0.94) return (test) => this.verify(test);
    return (test) => test.repository.acknowledge();
  }

  private async act(actor: Actor, work: (test: TestRepository, actor: Actor) => Promise<void>): Promise<void> {
    const test = await this.opened(actor);
    try {
      await work(test, actor);
    } catch (error) {
      // What a damaged plan was about to delete is not had back before it is settled.
      const isUnsettled = this.isDamaged && isTidemarkError(error) && error.code === 'OBJECT_DAMAGED';
      if (!actor.isDead && !isUnsettled && !isRefusal(error)) throw error;
      this.note(actor, isTidemarkError(error) ? error.code : 'failed');
    }
    actor.fuse = 0;
    if (actor.isDead) await this.stop(actor, false);
  }

  /** Work at whose n-th step on the disk the mover dies. */
  private async crash(): Promise<void> {
    const actor = this.anyActor();
    await this.opened(actor);
    actor.fuse = 1 + Math.floor(this.random() * this.random() * 120);
    this.note(actor, `dies after ${actor.fuse}`);
    await this.act(actor, this.anyWork());
  }

  private async collide(): Promise<void> {
    await Promise.all(this.actors.map((actor) => this.act(actor, this.anyWork())));
  }

  /** Something that maintenance needs is damaged or lost: it repairs itself, and nothing else is hurt. */
  private damage(): void {
    const names = [...this.files('collections'), ...this.files('roster'), 'maintenance'];
    const name = names[Math.floor(this.random() * names.length)] as string;
    const file = path.join(this.folder, 'repository', name);
    if (!fs.existsSync(file)) return;
    const isLost = this.random() < 0.3;
    this.tell(`${name} is ${isLost ? 'lost' : 'damaged'}`);
    if (isLost) fs.rmSync(file);
    else if (name === 'maintenance') fs.truncateSync(file, Math.floor(this.random() * 40));
    else {
      const bytes = fs.readFileSync(file);
      // Not in the version, which would make it one of a later version.
      const at = 10 + Math.floor(this.random() * (bytes.length - 10));
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(this.random() * 8));
      fs.writeFileSync(file, bytes);
    }
    this.count('objects of maintenance damaged', 1);
    this.isDamaged = true;
  }

  private async restart(actor: Actor): Promise<void> {
    await this.stop(actor, this.random() < 0.6);
    if (this.random() < 0.4) fs.rmSync(this.cacheOf(actor), { recursive: true, force: true });
    await this.opened(actor);
  }

  private async backup(test: TestRepository): Promise<void> {
    const pointId = randomUUID();
    const base = this.anyPoint('live');
    const session = await test.openSession(base ? [base[0]] : []);
    const draft = await test.openDisk(session, 'disk', sizeBytes, base?.[0] ?? '');
    const held = { session, draft, content: new Map(base?.[1].content), owner: {} };
    await this.write(test, held);
    await this.commit(test, held, pointId);
  }

  private async hold(test: TestRepository, actor: Actor): Promise<void> {
    if (actor.held.length >= 3) return;
    const base = this.anyPoint('live');
    const session = await test.openSession(base ? [base[0]] : []);
    const draft = await test.openDisk(session, 'disk', sizeBytes, base?.[0] ?? '');
    const held = { session, draft, content: new Map(base?.[1].content), owner: {} };
    await this.write(test, held);
    if (this.random() < 0.5) await test.repository.blocks.flush();
    actor.held.push(held);
    this.note(actor, 'holds a session');
  }

  private async resume(test: TestRepository, actor: Actor): Promise<void> {
    const [held] = actor.held.splice(Math.floor(this.random() * actor.held.length), 1);
    if (!held) return;
    if (this.random() < 0.3) return held.session.abort('test');
    await this.write(test, held);
    await this.commit(test, held, randomUUID());
  }

  private async write(test: TestRepository, { draft, content, owner }: Held): Promise<void> {
    const count = 1 + Math.floor(this.random() * 8);
    for (let i = 0; i < count; i++) {
      const block = Math.floor(this.random() * diskBlocks);
      // Half of them are known already, perhaps.
      const seed = this.random() < 0.5 ? 1 + Math.floor(this.random() * 30) : this.unique++;
      await test.send(draft, block, blockOf(seed), owner);
      content.set(block, seed);
    }
    if (this.random() < 0.3) {
      const from = Math.floor(this.random() * diskBlocks);
      const to = Math.min(diskBlocks, from + 80);
      draft.zero(from, to - from);
      for (let block = from; block < to; block++) content.delete(block);
    }
  }

  private async commit(test: TestRepository, { session, draft, content, owner }: Held, pointId: string): Promise<void> {
    for (;;) {
      const result = await session.commitDisk(draft, 100);
      if (!('missing' in result)) break;
      for (const block of result.missing) {
        const seed = content.get(block);
        if (seed === undefined) throw this.failure(`block ${block} is asked for, and is zero`);
        // Whoever else claimed it may never send it.
        for (const actor of this.actors) for (const other of actor.held) actor.test?.repository.blocks.release(other.owner);
        await test.send(draft, block, blockOf(seed), owner);
      }
    }
    this.tell(`${test.repository.writerId}: commits ${pointId}`);
    this.points.set(pointId, { content: new Map(content), state: 'unsure' });
    await test.commit(session, [{ diskId: 'disk', sizeBytes }], pointId);
    (this.points.get(pointId) as ModelPoint).state = 'live';
    test.repository.blocks.release(owner);
  }

  private async remove(test: TestRepository): Promise<void> {
    const found = this.anyPoint('live');
    if (!found) return;
    const [id, point] = found;
    this.tell(`${test.repository.writerId}: removes ${id}`);
    point.state = 'unsure';
    try {
      await this.maintenance.removePoint(test.repository, id);
      point.state = 'removed';
    } catch (error) {
      if (isTidemarkError(error) && error.code === 'POINT_IN_USE') point.state = 'live';
      throw error;
    }
  }

  private async undoRemove(test: TestRepository): Promise<void> {
    const found = this.anyPoint('removed');
    if (!found) return;
    const [id, point] = found;
    this.tell(`${test.repository.writerId}: undoes ${id}`);
    point.state = 'unsure';
    try {
      await this.maintenance.undoRemovePoint(test.repository, id);
      point.state = 'live';
    } catch (error) {
      if (isTidemarkError(error) && ['MAINTENANCE_BUSY', 'OBJECT_DAMAGED'].includes(error.code)) point.state = 'removed';
      // A collection deleted it.
      if (isTidemarkError(error) && error.code === 'POINT_NOT_FOUND') this.points.delete(id);
      throw error;
    }
  }

  private async collect(test: TestRepository, dryRun: boolean, cancelAfterMs?: number): Promise<CollectProgress> {
    const graceMs = this.random() < 0.5 ? minute : hour;
    const operation = this.maintenance.startCollect(randomUUID(), test.repository, { dryRun, bytesPerSecond: 0, graceMs });
    if (cancelAfterMs !== undefined) setTimeout(() => this.maintenance.cancel(operation.operationId), cancelAfterMs);
    await operation.done;
    const { totals } = operation.work.progress;
    this.count('deleted packs', totals.deletedPacks);
    this.count('condemned packs', totals.condemnedPacks);
    this.count('rewritten packs', totals.rewrittenPacks);
    this.count('deleted points', totals.deletedPoints);
    this.tell(
      `${test.repository.writerId}: collects ${JSON.stringify(totals)} ${operation.cancelled ? 'cancelled' : (operation.failure?.code ?? '')}`,
    );
    if (operation.failure) throw operation.failure;
    this.count('objects of maintenance repaired', totals.repaired.length);
    if (!dryRun && !operation.cancelled) this.isDamaged = false;
    return operation.work.progress;
  }

  private async undoCollect(test: TestRepository): Promise<void> {
    const { packs } = await this.maintenance.undoCollect(test.repository);
    this.count('packs taken back', packs);
  }

  private async verify(test: TestRepository): Promise<void> {
    const verifier = new Verifier(test.repository, new AbortController().signal);
    await verifier.run(undefined);
    const found = verifier.findings.filter(({ objectName }) => !this.isDamaged || !/^(collections|roster)\//.test(objectName));
    if (found.length > 0) throw this.failure(`damage: ${JSON.stringify(found.slice(0, 3))}`);
  }

  private async opened(actor: Actor): Promise<TestRepository> {
    if (actor.test) return actor.test;
    actor.isDead = false;
    actor.fuse = 0;
    actor.held = [];
    actor.test = await TestRepository.open(this.folder, {
      cacheFolder: this.cacheOf(actor),
      lock: { instanceId: actor.name, leaseDurationMs: 30_000, waitMs: 0 },
      packTargetBytes: 300_000,
      step: () => actor.step(),
      ...(this.options.key && { key: this.options.key }),
    });
    this.count('movers started', 1);
    return actor.test;
  }

  private async stop(actor: Actor, clean: boolean): Promise<void> {
    const { test } = actor;
    if (!test) return;
    if (!clean) actor.isDead = true;
    actor.test = undefined;
    // Of a dead one nothing reaches the disk any more; this frees what the process holds.
    const ends = await Promise.allSettled([test.sessions.stop().then(() => test.repository.close())]);
    if (clean && ends[0].status === 'rejected') throw ends[0].reason;
    if (clean) return;
    this.count('movers killed', 1);
    this.someoneDied = true;
    await test.repository.close().catch(() => undefined);
    await test.repository.store.close();
    this.makeHolderDead(`writers/${actor.name}.lease`, actor);
    this.makeHolderDead('maintenance', actor);
  }

  /** This process lives on: make the lease say that its holder was another one. */
  private makeHolderDead(name: string, actor: Actor): void {
    const file = path.join(this.folder, 'repository', name);
    if (!fs.existsSync(file)) return;
    const lease = parseLease(fs.readFileSync(file, 'utf8'));
    if (lease?.instanceId === actor.name) fs.writeFileSync(file, JSON.stringify({ ...lease, processStartedAt: 'before' }));
  }

  private async neededBytes(): Promise<number> {
    const { repository } = await this.opened(this.actors[0] as Actor);
    const needed = new Map<string, number>();
    const visit = async (digest: Buffer, level: number): Promise<void> => {
      if (needed.has(digest.toString('hex'))) return;
      needed.set(digest.toString('hex'), (await repository.blocks.locate(digest)).storedLength);
      if (level < 0) return;
      const page = await repository.pages.read(digest);
      for (let at = 0; at < page.length; at += 32) {
        const child = page.subarray(at, at + 32);
        if (child.some((byte) => byte !== 0)) await visit(child, level - 1);
      }
    };
    for (const id of repository.points.ids()) {
      const { disk } = await repository.points.readDisk(id, 'disk');
      const tree = repository.tree(disk);
      if (disk.allocatedBlocks > 0) await visit(tree.root, tree.levels - 1);
    }
    return [...needed.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Names of objects that should have gone: tombstones, drafts, records of sessions that ended, unfinished writes. */
  private leftovers(): string[] {
    return ['removed', 'drafts', 'tmp'].flatMap((folder) => this.files(folder));
  }

  /** Names of objects below a folder of the repository. */
  private files(folder: string): string[] {
    const root = path.join(this.folder, 'repository', folder);
    if (!fs.existsSync(root)) return [];
    const names = fs.readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return names.map((entry) => path.relative(path.join(this.folder, 'repository'), path.join(entry.parentPath, entry.name)));
  }

  private anyActor(): Actor {
    return this.actors[Math.floor(this.random() * this.actors.length)] as Actor;
  }

  private anyPoint(state: ModelPoint['state']): [string, ModelPoint] | undefined {
    const found = [...this.points].filter(([, point]) => point.state === state);
    // Sometimes without a base.
    return found[Math.floor(this.random() * (found.length + (found.length < 7 ? 1 : 0)))];
  }

  private cacheOf(actor: Actor): string {
    return path.join(this.folder, `cache-${actor.name}`);
  }

  private count(what: string, by: number): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + by);
  }

  private note(actor: Actor, what: string): void {
    this.tell(`${actor.name}: ${what}`);
    this.count(what.replace(/ \d+$/, ''), 1);
  }

  private tell(what: string): void {
    this.log.push(what);
    if (this.log.length > 60) this.log.shift();
  }

  private assertSame<T>(found: ReadonlySet<T>, expected: ReadonlySet<T>, what: string): void {
    const lost = [...expected].filter((one) => !found.has(one));
    const foreign = [...found].filter((one) => !expected.has(one));
    if (lost.length + foreign.length === 0) return;
    throw this.failure(
      `${what}: ${lost.length} lost (${lost.slice(0, 3).join()}), ${foreign.length} foreign (${foreign.slice(0, 3).join()})`,
    );
  }

  private failure(problem: string): Error {
    return new Error(`seed ${this.options.seed}: ${problem}\n${this.log.join('\n')}`);
  }
}

/** What a mover may be told while others work beside it. */
function isRefusal(error: unknown): boolean {
  const codes = ['MAINTENANCE_BUSY', 'MAINTENANCE_LOST', 'POINT_IN_USE', 'POINT_NOT_FOUND', 'CANCELLED'];
  return isTidemarkError(error) && codes.includes(error.code);
}
