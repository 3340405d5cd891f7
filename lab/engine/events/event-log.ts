import type { EngineClock } from '../model/clock';
import type { Database } from '../model/database';
import type { EventEntry, EventRefs } from '../model/entities';

/** Events older than this are forgotten, and so are the oldest beyond a fixed number: the lab may run for days. */
const RETENTION_MS = 30 * 24 * 3_600_000;
const MOST_EVENTS = 20_000;

export interface ExternalEvent {
  readonly origin: string;
  readonly severity: EventEntry['severity'];
  readonly customId: number;
  readonly description: string;
  readonly floodRate: number;
  readonly customData?: string;
}

/** The audit log: what the engine did, with the codes that clients look for. */
export class EventLog {
  private nextIndex: number;

  constructor(
    private readonly db: Database,
    private readonly clock: EngineClock,
  ) {
    this.nextIndex = db.events.list().reduce((highest, event) => Math.max(highest, event.index), 0) + 1;
  }

  /** Severity follows the real engine's for the code; the caller knows it. */
  log(code: number, severity: EventEntry['severity'], text: string, refs: EventRefs = {}, correlationId = ''): EventEntry {
    return this.add({ code, severity, description: text, refs, correlationId, origin: 'oVirt', customId: -1, floodRate: 30 });
  }

  logExternal(event: ExternalEvent, refs: EventRefs, correlationId: string): EventEntry {
    const code = { normal: 9801, warning: 9802, error: 9803, alert: 9804 }[event.severity];
    return this.add({ code, refs, correlationId, ...event });
  }

  /** Newest first. */
  list(): EventEntry[] {
    return this.db.events.list().sort((a, b) => b.index - a.index);
  }

  private add(event: Omit<EventEntry, 'id' | 'index' | 'time' | 'names'>): EventEntry {
    const index = this.nextIndex++;
    this.forgetOldest();
    return this.db.events.put({ id: String(index), index, time: this.clock.now(), names: this.namesOf(event.refs), ...event });
  }

  private namesOf(refs: EventRefs): Record<string, string> {
    const { db } = this;
    const names = {
      vm: refs.vmId === undefined ? undefined : db.vms.get(refs.vmId)?.name,
      host: refs.hostId === undefined ? undefined : db.hosts.get(refs.hostId)?.name,
      storage_domain: refs.storageDomainId === undefined ? undefined : db.storageDomains.get(refs.storageDomainId)?.name,
      cluster: refs.clusterId === undefined ? undefined : db.clusters.get(refs.clusterId)?.name,
      data_center: refs.dataCenterId === undefined ? undefined : db.dataCenters.get(refs.dataCenterId)?.name,
      template: refs.templateId === undefined ? undefined : db.templates.get(refs.templateId)?.name,
      user: refs.userId === undefined ? undefined : db.users.get(refs.userId)?.userName,
      disk: refs.diskId === undefined ? undefined : db.disks.get(refs.diskId)?.name,
    };
    return Object.fromEntries(Object.entries(names).filter((entry): entry is [string, string] => entry[1] !== undefined));
  }

  private forgetOldest(): void {
    for (const event of this.db.events.list()) {
      if (this.db.events.size < MOST_EVENTS && this.clock.now() - event.time < RETENTION_MS) {
        return;
      }
      this.db.events.delete(event.id);
    }
  }
}
