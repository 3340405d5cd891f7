import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runTool } from './qemu-img';

export interface ConfigDriveOnDisk {
  /** The tree, as a reader of the mounted CD sees it. */
  readonly folder: string;
  readonly isoFile: string;
}

/** Writes the files of a config drive as a tree and as an ISO image with Joliet and Rock Ridge names and the label `config-2`. Needs genisoimage. */
export async function writeConfigDrive(directory: string, files: Readonly<Record<string, string>>): Promise<ConfigDriveOnDisk> {
  const folder = join(directory, 'config-drive');
  const isoFile = join(directory, 'config-drive.iso');
  await removeConfigDrive(directory);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true, mode: 0o700 });
    await writeFile(join(folder, path), content, { mode: 0o600 });
  }
  await runTool('genisoimage', ['-quiet', '-o', isoFile, '-V', 'config-2', '-J', '-R', folder]);
  return { folder, isoFile };
}

/** It carries secrets and belongs to one run. */
export async function removeConfigDrive(directory: string): Promise<void> {
  await rm(join(directory, 'config-drive'), { recursive: true, force: true });
  await rm(join(directory, 'config-drive.iso'), { force: true });
}
