import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { ImageioDaemon } from '../data-path/imageio-daemon';
import { DataPathRig } from '../data-path/rig';
import { folderBytes, measureProcesses } from './measure';
import type { Cost } from './measure';
import type { CaseName, Contender } from './peers';

/**
 * Worker and mover as real processes with certificates, as the plug-in and the host see them. Their start is not measured, what they do then is: from the
 * task to the committed point, or to the whole file.
 */
export class Tidemark implements Contender {
  readonly cases: readonly CaseName[] = ['first', 'second', 'incremental', 'restore'];
  private rig: DataPathRig | undefined;
  private imageio: ImageioDaemon | undefined;
  private folder = '';
  private image = '';
  private repositoryId = '';
  private lastPointId = '';

  constructor(
    readonly name: string,
    private readonly source: 'device' | 'imageio',
    private readonly encrypted = false,
  ) {}

  async prepare(folder: string, image: string): Promise<void> {
    fs.mkdirSync(folder, { recursive: true });
    this.folder = folder;
    this.image = image;
    this.rig = await DataPathRig.start(folder);
    this.repositoryId = await this.rig.createRepository(path.join(folder, 'repository'), this.encrypted);
    if (this.source === 'imageio') this.imageio = await ImageioDaemon.start(path.join(folder, 'imageio'));
  }

  async run(name: CaseName): Promise<Cost> {
    const rig = this.rig as DataPathRig;
    const sizeBytes = fs.statSync(this.image).size;
    if (name === 'restore') return this.restore(rig, sizeBytes);
    const served = await this.imageio?.serve(this.image, { format: 'raw', write: false, sizeBytes });
    const source = served
      ? { imageTransfer: { transferUrl: served.url, proxyUrl: '', caPem: this.imageio?.caPem ?? '', sizeBytes: String(sizeBytes) } }
      : { localDevice: { path: this.image, sizeBytes: String(sizeBytes) } };
    const base = name === 'incremental' ? { basePointId: this.lastPointId, baseDiskId: 'disk' } : {};
    const cost = await measureProcesses(rig.pids, async () => {
      this.lastPointId = await rig.backup(this.repositoryId, { ...source, diskId: 'disk', ...base }, sizeBytes);
    });
    await served?.stop();
    return cost;
  }

  async storedBytes(): Promise<number> {
    return folderBytes(path.join(this.folder, 'repository'));
  }

  restoredFile(): string {
    return path.join(this.folder, 'restored.raw');
  }

  async cleanUp(): Promise<void> {
    await this.imageio?.stop();
    await this.rig?.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }

  private async restore(rig: DataPathRig, sizeBytes: number): Promise<Cost> {
    const { imageio } = this;
    if (imageio) {
      fs.writeFileSync(this.restoredFile(), '');
      fs.truncateSync(this.restoredFile(), sizeBytes);
    }
    const served = await imageio?.serve(this.restoredFile(), { format: 'raw', write: true, sizeBytes });
    const target = served
      ? { imageTransfer: { transferUrl: served.url, proxyUrl: '', caPem: imageio?.caPem ?? '', sizeBytes: String(sizeBytes) } }
      : { localFile: { path: this.restoredFile(), format: 'FILE_FORMAT_RAW' as const } };
    const cost = await measureProcesses(rig.pids, () =>
      rig.restore(this.repositoryId, { ...target, pointId: this.lastPointId, diskId: 'disk' }),
    );
    await served?.stop();
    return cost;
  }
}

/** A name that no other run uses. */
export function runName(): string {
  return `tidemark-bench-${randomUUID().slice(0, 8)}`;
}
