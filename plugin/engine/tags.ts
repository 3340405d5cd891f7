/** Tags, which jobs select VMs by. Engine REST API §2. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { textOf } from './mapping';
import type { Wire } from './mapping';

export interface Tag {
  readonly id: string;
  readonly name: string;
}

export class Tags {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly Tag[]> {
    return (await this.client.list('/tags', 'tag', options)).map(tagOf);
  }

  async ofVm(vmId: string, options: RequestOptions = {}): Promise<readonly Tag[]> {
    return (await this.client.list(`/vms/${vmId}/tags`, 'tag', options)).map(tagOf);
  }

  /** The tag of that name, made when it is missing. */
  async ensure(name: string, options: RequestOptions = {}): Promise<Tag> {
    const find = async () => (await this.client.list('/tags', 'tag', options)).find((row) => textOf(row, 'name') === name);
    const known = await find();
    return tagOf(known ?? (await this.client.create('/tags', { name }, { ...options, find })));
  }

  /** The tag must exist. Fine when the VM has it already. */
  async assign(vmId: string, name: string, options: RequestOptions = {}): Promise<void> {
    const has = async () => (await this.client.list(`/vms/${vmId}/tags`, 'tag', options)).find((row) => textOf(row, 'name') === name);
    try {
      await this.client.create(`/vms/${vmId}/tags`, { name }, { ...options, find: has });
    } catch (error) {
      if (!hasCode(error, 'ENGINE_REFUSED') || !(await has())) throw error;
    }
  }
}

export function tagOf(wire: Wire): Tag {
  return { id: textOf(wire, 'id') ?? '', name: textOf(wire, 'name') ?? '' };
}
