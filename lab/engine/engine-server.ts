import type { EngineOptions, EngineRun } from './engine';
import { composeEngine } from './engine';
import { FaultPlan } from './control/fault-plan';
import { FrontEnd, type FrontEndOptions } from './http/front-end';
import type { Captures } from './model/core';
import type { EngineSettings } from './model/settings';

export type EngineServerOptions = EngineOptions & FrontEndOptions;

/** The engine behind its web server: runs follow one another over the same data, the web server stays. */
export class EngineServer {
  readonly faults: FaultPlan;
  readonly captures: Captures = { folder: undefined };
  private readonly frontEnd: FrontEnd;
  private current: EngineRun | undefined;
  private settings: Partial<EngineSettings>;
  private changing: Promise<void> = Promise.resolve();

  constructor(private readonly options: EngineServerOptions) {
    this.faults = options.faults ?? new FaultPlan();
    this.frontEnd = new FrontEnd(options);
    this.settings = options.settings ?? {};
  }

  /** The run that serves now; undefined while the engine is down. */
  get run(): EngineRun | undefined {
    return this.current;
  }

  /** Listens, then brings the engine up; `prepare` may write rows before anything starts. Resolves to the port. */
  async start(prepare: (run: EngineRun) => void = () => undefined): Promise<number> {
    const port = await this.frontEnd.listen();
    await this.bringUp(prepare);
    return port;
  }

  /** The web server answers 503 in HTML for so many milliseconds (of real time, plus what stopping and starting take). */
  async restart(downMs: number, changed: Partial<EngineSettings> = {}): Promise<void> {
    const previous = this.changing;
    this.changing = (async () => {
      await previous;
      await this.takeDown();
      this.settings = { ...this.settings, ...changed };
      await new Promise((resolve) => setTimeout(resolve, downMs));
      await this.bringUp(() => undefined);
    })();
    await this.changing;
  }

  async stop(): Promise<void> {
    await this.changing.catch(() => undefined);
    await this.takeDown();
    await this.frontEnd.close();
  }

  private async bringUp(prepare: (run: EngineRun) => void): Promise<void> {
    const run = composeEngine({ ...this.options, settings: this.settings, faults: this.faults, captures: this.captures });
    prepare(run);
    await run.start();
    this.current = run;
    this.frontEnd.serveRun(run);
  }

  private async takeDown(): Promise<void> {
    this.frontEnd.serveRun(undefined);
    const run = this.current;
    this.current = undefined;
    await run?.stop();
  }
}
