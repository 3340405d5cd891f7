import { createHash } from 'node:crypto';

/** Names of interfaces (at most 15 characters) and namespaces; all begin with `tml<number>`, so that a lab's can be found again. */
export class NetworkNames {
  constructor(readonly labNumber: number) {}

  get backbone(): string {
    return `tml${this.labNumber}`;
  }

  /** The backbone's end of a cluster's uplink. */
  uplink(index: number): string {
    return `tml${this.labNumber}c${index}`;
  }

  clusterNamespace(index: number): string {
    return `tml${this.labNumber}-${index}`;
  }

  /** A process that stands for a VM. */
  processNamespace(vmId: string): string {
    return `tml${this.labNumber}-vm-${short(vmId)}`;
  }

  /** Port of a VM on its network. Unique on the machine, because those on the backbone lie beside other labs'. */
  port(vmId: string, index: number): string {
    return `tmv${short(`${this.labNumber}/${vmId}`)}n${index}`;
  }
}

const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 9);
