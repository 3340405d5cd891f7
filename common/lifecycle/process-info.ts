import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { durableWrite } from '../tls/durable-write';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';

/** Folder that holds package.json; compiled files lie in dist/common/lifecycle. */
export const packageRoot = path.resolve(__dirname, '..', '..', '..');

/** Product version, from package.json. */
export function productVersion(): string {
  const parsed = JSON.parse(fs.readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  return parsed.version;
}

/** Introduces this process: the instance id is made once per data folder, the boot id at each start. */
export function processInfo(
  dataFolder: string,
  protocols: readonly string[],
  capabilities: readonly string[],
): ProcessInfo & { instanceId: string; bootId: string } {
  const file = path.join(dataFolder, 'instance-id');
  let instanceId: string;
  try {
    instanceId = fs.readFileSync(file, 'utf8').trim();
  } catch {
    instanceId = randomUUID();
    durableWrite(file, instanceId, 0o600);
  }
  return {
    instanceId,
    bootId: randomUUID(),
    version: productVersion(),
    protocols: [...protocols],
    capabilities: [...capabilities],
    hostName: os.hostname(),
  };
}
