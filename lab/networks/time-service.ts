import { BackgroundService } from './background-service';

/** Tells the time of this machine to whoever asks on the server side, by NTP: chrony without any source and without touching the clock. */
export class TimeService extends BackgroundService {
  constructor(
    readonly addresses: readonly string[],
    folder: string,
  ) {
    super({ program: 'chronyd', name: 'chrony', folder, namespace: undefined });
  }

  protected command(configurationFile: string): readonly string[] {
    return ['-d', '-x', '-u', 'root', '-f', configurationFile];
  }

  protected configuration(pidFile: string): string {
    const lines = [
      'local stratum 8',
      'allow all',
      'cmdport 0',
      `pidfile ${pidFile}`,
      ...this.addresses.map((address) => `bindaddress ${address}`),
    ];
    return `${lines.join('\n')}\n`;
  }
}
