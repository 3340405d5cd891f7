/** Graphics consoles of a VM; without any it is headless. Engine REST API §9.1. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { textOf } from './mapping';

export class GraphicsConsoles {
  constructor(private readonly client: EngineClient) {}

  /** The VM must be down. */
  async removeAll(vmId: string, options: RequestOptions = {}): Promise<void> {
    for (const row of await this.client.list(`/vms/${vmId}/graphicsconsoles`, 'graphics_console', options)) {
      await this.client.remove(`/vms/${vmId}/graphicsconsoles/${textOf(row, 'id') ?? ''}`, options);
    }
  }
}
