import { eventually } from '../harness/child';
import type { Lab } from '../harness/lab';
import type { Report } from './report';

const mib = 1024 * 1024;
export const vmName = 'shop';

export type Amounts = typeof manyAmounts;

/** MiB of the demo's data. An emulated CPU carries a tenth of what a real one does. */
export const manyAmounts = { files: 160, ledger: 48, archive: 24 };
export const fewAmounts: Amounts = { files: 24, ledger: 12, archive: 6 };

/** The demo's VM: a file system that the guest writes, a raw disk, an empty sparse one. */
export const planWith = ({ files }: Amounts) => ({
  vms: [
    {
      name: vmName,
      cluster: 'Level46',
      guest: 'linux',
      nics: 1,
      tags: ['gold'],
      disks: [
        { name: 'shop-system', sizeMib: 768, format: 'cow', filesMib: files },
        { name: 'shop-ledger', sizeMib: 256, format: 'raw', domain: 'data-2' },
        { name: 'shop-empty', sizeMib: 4096, format: 'cow' },
      ],
    },
  ],
});

export interface NamedDisk {
  readonly id: string;
  readonly name: string;
}

/** The VM in the lab that is backed up, and what happens to it in the meantime. */
export class DemoVm {
  #seed: number;

  constructor(
    private readonly lab: Lab,
    private readonly report: Report,
    private readonly amounts: Amounts,
    seed: number,
  ) {
    this.#seed = seed * 1000 + 1;
  }

  /** Resolves when the guest writes. */
  async start(): Promise<void> {
    await this.lab.startVm(vmName);
    await eventually('the guest to write', 240_000, async () => {
      const { text } = await this.lab.control<{ text: string }>('GET', `/vms/${vmName}/console`);
      return /cycle \d+/i.test(text) || undefined;
    });
    await this.fillLedger();
  }

  fillLedger(): Promise<void> {
    return this.#write('shop-ledger', this.amounts.ledger);
  }

  async letGuestWrite(): Promise<void> {
    this.report.step('the guest goes on writing; 6 MiB of the raw disk change');
    const cycles = async () =>
      Number(
        /cycle (\d+)[^]*?$/i.exec(
          (await this.lab.control<{ text: string }>('GET', `/vms/${vmName}/console`)).text
            .split('\n')
            .findLast((line) => /cycle/i.test(line)) ?? '',
        )?.[1] ?? 0,
      );
    const before = await cycles();
    await this.#write('shop-ledger', 6);
    await eventually('more writes of the guest', 240_000, async () => (await cycles()) > before + 2 || undefined);
  }

  async addDisk(): Promise<void> {
    this.report.step('adding a fourth disk to the running VM');
    const [vm] = (await this.lab.api<{ vm: { id: string }[] }>('GET', `/vms?search=name%3D${vmName}`)).vm;
    const [domain] = (await this.lab.api<{ storage_domain: { id: string }[] }>('GET', '/storagedomains?search=name%3Ddata-1'))
      .storage_domain;
    await this.lab.api('POST', `/vms/${vm?.id}/diskattachments`, {
      active: true,
      bootable: false,
      interface: 'virtio_scsi',
      disk: {
        name: 'shop-archive',
        format: 'cow',
        sparse: true,
        provisioned_size: 512 * mib,
        backup: 'incremental',
        storage_domains: { storage_domain: [{ id: domain?.id }] },
      },
    });
    await eventually('the new disk', 240_000, async () => {
      const disk = (await this.lab.entities<NamedDisk & { status: string }>('disks')).find(({ name }) => name === 'shop-archive');
      return disk?.status === 'ok' || undefined;
    });
    await eventually('the new disk in the VM', 240_000, async () => {
      await this.#write('shop-archive', this.amounts.archive);
      return true;
    });
  }

  /** Id of the host that it runs on. */
  async host(): Promise<string> {
    const found = (await this.lab.entities<NamedDisk & { hostId?: string }>('vms')).find(({ name }) => name === vmName);
    if (!found?.hostId) throw new Error(`${vmName} runs nowhere`);
    return found.hostId;
  }

  /** Writes `count` MiB of seeded random data at seeded places. */
  async #write(disk: string, count: number): Promise<void> {
    for (let written = 0; written < count; written += 2) {
      this.#seed += 1;
      const place = (this.#seed * 7919) % 100;
      await this.lab.control('POST', `/vms/${vmName}/write`, {
        disk,
        offsetBytes: place * 2 * mib,
        lengthBytes: 2 * mib,
        pattern: 'random',
        seed: this.#seed,
      });
    }
  }
}
