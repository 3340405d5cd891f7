import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLabCa, issueServerCertificate, type KeyAndCertificate } from '../hosts/pki';
import type { SeedPlan } from './seed-plan';

/**
 * What stays the same over restarts of one lab: ids and addresses of hosts, certificates, ports, the administrator's password.
 * Written once as `lab.json` into the data directory, readable by its owner only.
 */
export interface LabLayout {
  readonly ca: KeyAndCertificate;
  readonly engineCertificate: KeyAndCertificate;
  readonly hosts: readonly { readonly id: string; readonly name: string; readonly cluster: string }[];
  readonly adminPassword: string;
  readonly plan: SeedPlan;
  /** 0 until the ports are known. */
  readonly enginePort: number;
  readonly controlPort: number;
}

export const LAB_ADDRESS = '127.0.0.1';

/**
 * The layout of this directory, made from the plan at the first start; afterwards the plan is ignored. `renewCa` makes another authority,
 * as an engine that was set up anew has; daemons that still run keep their certificates, as hosts do until they are enrolled again.
 */
export async function openLayout(dataDir: string, plan: SeedPlan, renewCa = false): Promise<LabLayout> {
  mkdirSync(dataDir, { recursive: true });
  const file = layoutFile(dataDir);
  if (existsSync(file)) {
    const known = JSON.parse(readFileSync(file, 'utf8')) as LabLayout;
    if (!renewCa) {
      return known;
    }
    const renewed = { ...known, ...(await newCertificates()) };
    saveLayout(dataDir, renewed);
    return renewed;
  }
  const layout: LabLayout = {
    ...(await newCertificates()),
    hosts: plan.clusters.flatMap((cluster) => cluster.hosts.map((name) => ({ id: randomUUID(), name, cluster: cluster.name }))),
    adminPassword: randomBytes(12).toString('base64url'),
    plan,
    enginePort: 0,
    controlPort: 0,
  };
  saveLayout(dataDir, layout);
  return layout;
}

async function newCertificates(): Promise<Pick<LabLayout, 'ca' | 'engineCertificate'>> {
  const ca = await createLabCa('lab engine authority');
  return { ca, engineCertificate: await issueServerCertificate(ca, 'engine.lab', ['engine.lab', 'localhost', LAB_ADDRESS, '::1']) };
}

export function saveLayout(dataDir: string, layout: LabLayout): void {
  const aside = `${layoutFile(dataDir)}.new`;
  writeFileSync(aside, JSON.stringify(layout, undefined, 2), { mode: 0o600 });
  renameSync(aside, layoutFile(dataDir));
}

const layoutFile = (dataDir: string): string => join(dataDir, 'lab.json');
