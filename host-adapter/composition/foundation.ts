import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { InjectionToken } from 'tsyringe';
import { processInfo } from '../../common/lifecycle/process-info';
import { createLogger } from '../../common/log/logger';
import type { Logger } from '../../common/log/logger';
import { openCatalogue } from '../catalogue/catalogue';
import { PlatformStore } from '../catalogue/platform-store';
import { RepositoryStore } from '../catalogue/repository-store';
import { SettingStore } from '../catalogue/setting-store';
import type { ServerConfig } from '../config';
import { CertificateAuthority } from '../identity/certificate-authority';
import { readConsoleCertificate } from '../identity/console-certificate';
import { tokens } from './tokens';

const hostProtocols = ['tidemark.host.v1'];

/** What a server has before any of its parts: settings, catalogue, authority. */
export interface Foundation {
  readonly config: ServerConfig;
  readonly dataFolder: string;
  readonly installationId: string;
  readonly logger: Logger;
  readonly now: () => Date;
  readonly db: Awaited<ReturnType<typeof openCatalogue>>;
  readonly settings: SettingStore;
  readonly repositoryStore: RepositoryStore;
  readonly platformStore: PlatformStore;
  readonly authority: CertificateAuthority;
  readonly consoleCertificate: ReturnType<typeof readConsoleCertificate>;
  /** Where the ports are opened. */
  readonly address: string;
  /** Of everything that is served by gRPC. */
  readonly options: { readonly logger: Logger; readonly domain: string };
  /** Known once the services run. */
  readonly endpoints: () => ServerEndpoints;
}

/** Where others find this server. */
export interface ServerEndpoints {
  /** URL of the REST API. */
  readonly console: string;
  readonly control: string;
  readonly enrolment: string;
}

export type Get = <T>(of: InjectionToken<T>) => T;
/** Says how a part is made; it is made when somebody first needs it. */
export type Once = <T>(of: InjectionToken<T>, make: (get: Get) => T) => void;

/** Opens catalogue and authority; starts nothing. */
export async function openFoundation(config: ServerConfig, get: Get, given?: Logger): Promise<Foundation> {
  const { dataFolder } = config;
  fs.mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
  const logger =
    given ?? createLogger({ process: 'server', level: config.logLevel, ...(config.logFile === undefined ? {} : { file: config.logFile }) });
  const installationId = processInfo(dataFolder, hostProtocols, []).instanceId;
  const db = await openCatalogue(path.join(dataFolder, 'catalogue.sqlite'));
  const settings = new SettingStore(db);
  await settings.load();
  const endpointOf = (port: number): string => {
    const name = config.addresses[0] as string;
    return `${net.isIPv6(name) ? `[${name}]` : name}:${port}`;
  };
  return {
    config,
    dataFolder,
    installationId,
    logger,
    now: () => new Date(),
    db,
    settings,
    repositoryStore: new RepositoryStore(db),
    platformStore: new PlatformStore(db),
    authority: await CertificateAuthority.open(dataFolder, installationId, config.addresses),
    consoleCertificate: readConsoleCertificate(config.console),
    address: config.listen.address === '::' && !hasIPv6() ? '0.0.0.0' : config.listen.address,
    options: { logger, domain: 'host' },
    endpoints: () => ({
      console: `https://${endpointOf(get(tokens.console).port)}`,
      control: endpointOf(get(tokens.control).port),
      enrolment: endpointOf(get(tokens.enrolmentPort).port),
    }),
  };
}

function hasIPv6(): boolean {
  return fs.existsSync('/proc/net/if_inet6') && fs.readFileSync('/proc/net/if_inet6', 'utf8') !== '';
}
