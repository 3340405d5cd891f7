import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { ImageioDaemon } from '../data-path/imageio-daemon';
import { DataPathRig } from '../data-path/rig';
import { folderBytes, measureProcesses } from './measure';
import type { Cost } from './measure';
import { caseNames } from './peers';
import type { CaseName, Contender } from './peers';
import type { S3Server } from './s3-server';

/**
 * Worker and mover as real processes with certificates, as the plug-in and the host see them. Their start is not measured, what they do then is: from the
 * task to the committed point, or to the whole file.
 */
export class Tidemark implements Contender {
  readonly cases: readonly CaseName[] = caseNames;
  private rig: DataPathRig | undefined;
  private imageio: ImageioDaemon | undefined;
  private folder = '';
  private image = '';
  private repositoryId = '';
  private readonly pointIds: string[] = [];
  private prefix = '';

  /** The repository lies in a folder of the mover's machine, or with a server in a bucket, to which the mover is the gateway. */
  constructor(
    readonly name: string,
    private readonly options: {
      readonly source: 'device' | 'imageio';
      readonly encrypted?: boolean;
      readonly server?: () => Promise<S3Server>;
    },
  ) {}

  async prepare(folder: string, image: string): Promise<void> {
    fs.mkdirSync(folder, { recursive: true });
    this.folder = folder;
    this.image = image;
    this.rig = await DataPathRig.start(folder);
    const server = await this.options.server?.();
    this.prefix = server?.newPrefix() ?? '';
    const place = server
      ? { location: server.location(this.prefix), access: { ...server.keys, caPem: '' } }
      : { location: `directory:${path.join(folder, 'repository')}` };
    this.repositoryId = await this.rig.createRepository(place, this.options.encrypted);
    this.pointIds.length = 0;
    if (this.options.source === 'imageio') this.imageio = await ImageioDaemon.start(path.join(folder, 'imageio'));
  }

  async run(name: CaseName): Promise<Cost> {
    const rig = this.rig as DataPathRig;
    const sizeBytes = fs.statSync(this.image).size;
    if (name === 'restore') return this.restore(rig, sizeBytes);
    if (name === 'verify') return measureProcesses([rig.mover.pid], () => rig.verify(this.repositoryId));
    // As restic's: the newest point stays.
    if (name === 'collect')
      return measureProcesses([rig.mover.pid], async () => void (await rig.collect(this.repositoryId, this.pointIds.slice(0, -1))));
    const served = await this.imageio?.serve(this.image, { format: 'raw', write: false, sizeBytes });
    const source = served
      ? { imageTransfer: { transferUrl: served.url, proxyUrl: '', caPem: this.imageio?.caPem ?? '', sizeBytes: String(sizeBytes) } }
      : { localDevice: { path: this.image, sizeBytes: String(sizeBytes) } };
    const base = name === 'incremental' ? { basePointId: this.pointIds.at(-1) ?? '', baseDiskId: 'disk' } : {};
    const cost = await measureProcesses(rig.pids, async () => {
      this.pointIds.push(await rig.backup(this.repositoryId, { ...source, diskId: 'disk', ...base }, sizeBytes));
    });
    await served?.stop();
    return cost;
  }

  async storedBytes(): Promise<number> {
    const server = await this.options.server?.();
    return server ? server.bytes(this.prefix) : folderBytes(path.join(this.folder, 'repository'));
  }

  restoredFile(): string {
    return path.join(this.folder, 'restored.raw');
  }

  async cleanUp(): Promise<void> {
    await this.imageio?.stop();
    await this.rig?.stop();
    await (await this.options.server?.())?.empty(this.prefix);
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
      rig.restore(this.repositoryId, { ...target, pointId: this.pointIds.at(-1) ?? '', diskId: 'disk' }),
    );
    await served?.stop();
    return cost;
  }
}

/** A name that no other run uses. */
export function runName(): string {
  return `tidemark-bench-${randomUUID().slice(0, 8)}`;
}
