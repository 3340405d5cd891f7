/** What has to hold in a world after every step: all points of the model are there, bit for bit, for each mover, and nothing else is. */
import type { TestRepository } from '../test-repository';
import { blockOf, type ModelPoint, type WorldModel } from './model';
import type { Movers } from './movers';

export class Checks {
  /** Places in packs that were read, with the seed of what was there. */
  private readonly places = new Map<string, number>();
  private looks = 0;

  constructor(
    private readonly model: WorldModel,
    private readonly movers: Movers,
  ) {}

  /** Points are whole for one of the movers that run, in turns, or (everything) for all. */
  async look(everything = false): Promise<void> {
    const { model } = this;
    if (everything) this.places.clear();
    this.looks++;
    const packs = new Set(model.files('packs'));
    const running = this.movers.actors.filter((actor) => actor.test);
    for (const [i, actor] of running.entries()) {
      if (!actor.test) continue;
      const { repository } = actor.test;
      await repository.refresh();
      // A mover that dies may not have told of what it did.
      if (model.someoneDied || [...model.points.values()].some(({ state }) => state === 'unsure')) await repository.points.reload();
      this.ascertain(actor.test);
      const expected = [...model.points].filter(([, { state }]) => state === 'live').map(([id]) => id);
      model.assertSame(new Set(repository.points.ids()), new Set(expected), 'points');
      if (everything || i === this.looks % running.length) for (const id of expected) await this.point(actor.test, id, packs);
    }
    model.someoneDied = false;
  }

  /** Bytes of blocks in packs, those of them that are needed, and names of objects that should have gone: tombstones, drafts, unfinished writes. */
  async space(test: TestRepository): Promise<{ storedBytes: number; neededBytes: number; leftovers: string[] }> {
    let storedBytes = 0;
    for (const id of test.repository.index.packs.ids())
      for (const entry of (await test.repository.index.readList(id)).entries) storedBytes += entry.storedLength;
    const leftovers = ['removed', 'drafts', 'tmp'].flatMap((folder) => this.model.files(folder));
    return { storedBytes, neededBytes: await neededBytes(test), leftovers };
  }

  private async point(test: TestRepository, pointId: string, packs: ReadonlySet<string>): Promise<void> {
    const { content } = this.model.points.get(pointId) as ModelPoint;
    const tree = test.repository.tree((await test.repository.points.readDisk(pointId, 'disk')).disk);
    const found = new Set<number>();
    for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1)) {
      found.add(block);
      const digest = await tree.blockDigest(block);
      const seed = content.get(block) ?? 0;
      if (this.isRead(test, digest, seed, packs)) continue;
      const { location, raw } = await test.repository.blocks.readChecked(digest);
      if (!raw.equals(blockOf(seed))) throw this.model.failure(`block ${block} of point ${pointId} is another one`);
      this.places.set(`${test.repository.index.packNameOf(location)} ${location.offset}`, seed);
    }
    this.model.assertSame(found, new Set(content.keys()), `blocks of ${pointId}`);
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
    const { points } = this.model;
    for (const [id, point] of points) {
      if (point.state !== 'unsure') continue;
      if (repository.points.has(id)) point.state = 'live';
      else if (repository.points.tombstones.has(id)) point.state = 'removed';
      else points.delete(id);
      this.model.tell(`${repository.writerId} finds ${id} ${points.get(id)?.state ?? 'absent'}`);
    }
  }
}

/** By following all points from their roots. */
async function neededBytes({ repository }: TestRepository): Promise<number> {
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
