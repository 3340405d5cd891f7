/** Maintenance of a world: points are removed and taken back, space is collected, and what maintenance itself needs is damaged. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import type { CollectProgress } from '../../maintenance/collect/collect-progress';
import { Maintenance } from '../../maintenance/maintenance';
import { Verifier } from '../../maintenance/verifier';
import { quiet, type TestRepository } from '../test-repository';
import type { WorldModel } from './model';

const minute = 60_000;
const hour = 60 * minute;

export class Upkeep {
  private readonly maintenance: Maintenance;

  constructor(private readonly model: WorldModel) {
    const packAgeMs = model.random() < 0.5 ? hour : 0;
    const settings = { packAgeMs, reserveBytes: 0, acknowledgeWaitMs: 0, ...model.options.settings };
    this.maintenance = new Maintenance(quiet, { settings, now: () => Date.now() + model.clockMs });
  }

  async remove(test: TestRepository): Promise<void> {
    const found = this.model.anyPoint('live');
    if (!found) return;
    const [id, point] = found;
    this.model.tell(`${test.repository.writerId}: removes ${id}`);
    point.state = 'unsure';
    try {
      await this.maintenance.removePoint(test.repository, id);
      point.state = 'removed';
    } catch (error) {
      if (isTidemarkError(error) && error.code === 'POINT_IN_USE') point.state = 'live';
      throw error;
    }
  }

  async undoRemove(test: TestRepository): Promise<void> {
    const found = this.model.anyPoint('removed');
    if (!found) return;
    const [id, point] = found;
    this.model.tell(`${test.repository.writerId}: undoes ${id}`);
    point.state = 'unsure';
    try {
      await this.maintenance.undoRemovePoint(test.repository, id);
      point.state = 'live';
    } catch (error) {
      if (isTidemarkError(error) && ['MAINTENANCE_BUSY', 'OBJECT_DAMAGED'].includes(error.code)) point.state = 'removed';
      // A collection deleted it.
      if (isTidemarkError(error) && error.code === 'POINT_NOT_FOUND') this.model.points.delete(id);
      throw error;
    }
  }

  async collect(test: TestRepository, dryRun: boolean, cancelAfterMs?: number): Promise<CollectProgress> {
    const { model } = this;
    const graceMs = model.random() < 0.5 ? minute : hour;
    const operation = this.maintenance.startCollect(randomUUID(), test.repository, { dryRun, bytesPerSecond: 0, graceMs });
    if (cancelAfterMs !== undefined) setTimeout(() => this.maintenance.cancel(operation.operationId), cancelAfterMs);
    await operation.done;
    const { totals } = operation.work.progress;
    model.count('deleted packs', totals.deletedPacks);
    model.count('condemned packs', totals.condemnedPacks);
    model.count('rewritten packs', totals.rewrittenPacks);
    model.count('deleted points', totals.deletedPoints);
    const end = operation.cancelled ? 'cancelled' : (operation.failure?.code ?? '');
    model.tell(`${test.repository.writerId}: collects ${JSON.stringify(totals)} ${end}`);
    if (operation.failure) throw operation.failure;
    model.count('objects of maintenance repaired', totals.repaired.length);
    if (!dryRun && !operation.cancelled) model.isDamaged = false;
    return operation.work.progress;
  }

  async undoCollect(test: TestRepository): Promise<void> {
    const { packs } = await this.maintenance.undoCollect(test.repository);
    this.model.count('packs taken back', packs);
  }

  async verify(test: TestRepository): Promise<void> {
    const verifier = new Verifier(test.repository, new AbortController().signal);
    await verifier.run(undefined);
    const found = verifier.findings.filter(({ objectName }) => !this.model.isDamaged || !/^(collections|roster)\//.test(objectName));
    if (found.length > 0) throw this.model.failure(`damage: ${JSON.stringify(found.slice(0, 3))}`);
  }

  /** Something that maintenance needs is damaged or lost: it repairs itself, and nothing else is hurt. */
  damage(): void {
    const { model } = this;
    const { random } = model;
    const names = [...model.files('collections'), ...model.files('roster'), 'maintenance'];
    const name = names[Math.floor(random() * names.length)] as string;
    const file = model.fileOf(name);
    if (!fs.existsSync(file)) return;
    const isLost = random() < 0.3;
    model.tell(`${name} is ${isLost ? 'lost' : 'damaged'}`);
    if (isLost) fs.rmSync(file);
    else if (name === 'maintenance') fs.truncateSync(file, Math.floor(random() * 40));
    else {
      const bytes = fs.readFileSync(file);
      const at = Math.floor(random() * bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      fs.writeFileSync(file, bytes);
    }
    model.count('objects of maintenance damaged', 1);
    model.isDamaged = true;
  }
}
