import { createHash } from 'node:crypto';
import { mkdirSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostError, type VolumeId } from './driver';

/**
 * Where things of one fleet lie. Lasting things below `dataDir`:
 *
 *     storage/<domainId>/images/<diskId>/<volumeId>   the bytes of a volume
 *     scratch/                                        fleecing and merge overlays, worthless after a restart of their user
 *     run/<kind>-<id>.json                            one record per process (see processes.ts)
 *     hosts/<hostId>/                                 imageio's configuration, certificate and log
 *     vms/<vmId>/                                     console and output of qemu
 *
 * Sockets lie in a short directory of their own, because a unix socket's path may not exceed 107 bytes.
 */
export class FleetPaths {
  readonly dataDir: string;
  readonly socketDir: string;

  constructor(dataDir: string) {
    mkdirSync(dataDir, { recursive: true });
    this.dataDir = realpathSync(dataDir);
    this.socketDir = join(tmpdir(), `tidemark-lab-${shortHash(this.dataDir)}`);
    if (this.socketDir.length > 70)
      throw new HostError('HOST_DOWN', `The path ${this.socketDir} is too long for sockets: set TMPDIR to a shorter one.`);
    mkdirSync(this.socketDir, { recursive: true, mode: 0o700 });
    for (const name of ['storage', 'scratch', 'run', 'hosts', 'vms']) mkdirSync(join(this.dataDir, name), { recursive: true });
  }

  domain(domainId: string): string {
    return join(this.dataDir, 'storage', domainId);
  }

  volume(volume: VolumeId): string {
    return join(this.domain(volume.domainId), 'images', volume.diskId, volume.volumeId);
  }

  scratch(name: string): string {
    return join(this.dataDir, 'scratch', name);
  }

  run(name: string): string {
    return join(this.dataDir, 'run', name);
  }

  host(hostId: string): string {
    return join(this.dataDir, 'hosts', hostId);
  }

  vm(vmId: string): string {
    return join(this.dataDir, 'vms', vmId);
  }

  /** `kind` keeps apart the sockets of one owner. */
  socket(kind: string, id: string): string {
    return join(this.socketDir, `${kind}-${shortHash(id)}`);
  }
}

/** Twelve hexadecimal digits, for names with a length limit (sockets, qemu's nodes). */
export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
