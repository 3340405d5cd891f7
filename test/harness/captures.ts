import fs from 'node:fs';
import path from 'node:path';

/**
 * The raw image that qemu-img read of a disk at the engine's point in time (`POST /captures` of the lab), for a session whose id is in the
 * engine backup's description. The newest one, when the session read the disk again.
 */
export function captureOf(folder: string, sessionId: string, diskId: string): string {
  const found = fs
    .readdirSync(folder)
    .map((backup) => path.join(folder, backup))
    .filter((backup) => fs.readFileSync(path.join(backup, 'description'), 'utf8').includes(sessionId))
    .map((backup) => path.join(backup, `${diskId}.raw`))
    .filter((file) => fs.existsSync(file))
    .sort((a, b) => fs.statSync(b).mtimeMs - fs.statSync(a).mtimeMs)[0];
  if (found === undefined) throw new Error(`no capture of disk ${diskId} in session ${sessionId}`);
  return found;
}
