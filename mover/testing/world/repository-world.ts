/**
 * A repository on which several movers work, collide and die, beside a simple model of what must be in it: points with a number per block. After
 * every step all points of the model have to be there, bit for bit. Everything follows from a seed, but for what runs side by side.
 */
import { sessionName } from '../../format/session-record';
import { readSession, sessionIds } from '../../maintenance/collect/session-records';
import { Backups } from './backups';
import { Checks } from './checks';
import { WorldModel, type WorldOptions } from './model';
import { Movers, type Work } from './movers';
import { Upkeep } from './upkeep';

const minute = 60_000;
const hour = 60 * minute;

export class RepositoryWorld {
  private readonly model: WorldModel;
  private readonly movers: Movers;
  private readonly backups: Backups;
  private readonly upkeep: Upkeep;
  private readonly checks: Checks;

  private constructor(folder: string, options: WorldOptions) {
    this.model = new WorldModel(folder, options);
    this.movers = new Movers(this.model);
    this.backups = new Backups(this.model, this.movers);
    this.upkeep = new Upkeep(this.model);
    this.checks = new Checks(this.model, this.movers);
  }

  /** Makes a repository in an empty folder. */
  static async make(folder: string, options: WorldOptions): Promise<RepositoryWorld> {
    const world = new RepositoryWorld(folder, options);
    for (const actor of world.movers.actors) await world.movers.opened(actor);
    return world;
  }

  /** How often what happened. */
  get counts(): ReadonlyMap<string, number> {
    return this.model.counts;
  }

  /** One step, and a look at everything after it. */
  async step(): Promise<void> {
    const { model, movers } = this;
    const dice = model.random();
    if (dice < 0.12) await Promise.all(movers.actors.map((actor) => movers.act(actor, this.anyWork())));
    else if (dice < 0.3) await movers.crash(movers.any(), () => this.anyWork());
    else if (dice < 0.36) await movers.restart(movers.any());
    else if (dice < 0.46) model.clockMs += model.random() < 0.5 ? 10 * minute : 30 * hour;
    else if (dice < 0.48) this.upkeep.damage();
    else await movers.act(movers.any(), this.anyWork());
    await this.checks.look();
  }

  /** Ends what is open and collects until nothing more is found; resolves with the bytes of blocks in packs and those of them that are needed. */
  async settle(): Promise<{ storedBytes: number; neededBytes: number; leftovers: string[] }> {
    const { movers, model } = this;
    for (const actor of movers.actors) {
      // What an earlier life left unfinished is cleared away by the next.
      await movers.stop(actor, true);
      const test = await movers.opened(actor);
      for (const id of await sessionIds(test.repository)) {
        const record = (await readSession(test.repository, sessionName(id)))?.content;
        if (record?.state === 'open' && record.owner === actor.name) await test.sessions.find(id)?.abort('test');
      }
      await test.repository.acknowledge();
    }
    for (let round = 0; ; round++) {
      model.clockMs += 48 * hour;
      for (const actor of movers.actors) await (await movers.opened(actor)).repository.acknowledge();
      const maintainer = movers.actors[round % 2 === 0 ? 0 : 1];
      const { totals } = await this.upkeep.collect(await movers.opened(maintainer), false);
      if (totals.condemnedPacks + totals.deletedPacks + totals.rewrittenPacks + totals.waitingCollections === 0) break;
      if (round === 20) throw new Error(`the collection finds no end: ${JSON.stringify(totals)}`);
    }
    await this.checks.look(true);
    return this.checks.space(await movers.opened(movers.actors[0]));
  }

  async close(): Promise<void> {
    for (const actor of this.movers.actors) await this.movers.stop(actor, true);
  }

  private anyWork(): Work {
    const { backups, upkeep } = this;
    const { random } = this.model;
    const dice = random();
    if (dice < 0.28) return (test) => backups.make(test);
    if (dice < 0.38) return (test, actor) => backups.hold(test, actor);
    if (dice < 0.48) return (test, actor) => backups.resume(test, actor);
    if (dice < 0.6) return (test) => upkeep.remove(test);
    if (dice < 0.66) return (test) => upkeep.undoRemove(test);
    if (dice < 0.7) return async (test) => void (await upkeep.collect(test, false, Math.floor(random() * 20)));
    if (dice < 0.88) return async (test) => void (await upkeep.collect(test, random() < 0.1));
    if (dice < 0.91) return (test) => upkeep.undoCollect(test);
    if (dice < 0.94) return (test) => upkeep.verify(test);
    return (test) => test.repository.acknowledge();
  }
}
