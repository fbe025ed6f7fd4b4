// What Grafana's own types leave open, said for the panels that the dashboard has.
import type { DataSourceRef } from '@grafana/schema';
import type * as raw from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type { AnnotationQuery, VariableModel } from '@grafana/schema/dist/types/veneer/dashboard.types';
import type * as heatmap from '@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen';
import type * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as timeseries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';

// A type as it stands in JSON, where an enum is the string or the number behind it.
export type Json<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends number
      ? `${T}` extends `${infer N extends number}` ? N : never
      : T extends (infer E)[]
        ? Json<E>[]
        : T extends object
          ? { [K in keyof T]: Json<T[K]> }
          : T;

// Of the query of Grafana's Prometheus data source (packages/grafana-prometheus/src/dataquery.ts) what is used here;
// the registry has no types of it alone.
interface PromQuery {
  datasource?: DataSourceRef;
  editorMode: 'code';
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
  refId: string;
}

interface Organize {
  id: 'organize';
  options: {
    excludeByName: Record<string, boolean>;
    indexByName: Record<string, number>;
    renameByName: Record<string, string>;
  };
}

interface Panel<Type, Options, Custom> extends Omit<raw.Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations'> {
  type: Type;
  // Of each panel, whatever the schema thinks optional.
  id: number;
  title: string;
  description: string;
  datasource: DataSourceRef;
  gridPos: raw.GridPos;
  targets: PromQuery[];
  options: Options;
  fieldConfig: Omit<raw.FieldConfigSource, 'defaults'> & {
    defaults: Omit<raw.FieldConfig, 'custom' | 'unit' | 'thresholds'> & {
      custom?: Custom;
      unit: string;
      thresholds: raw.ThresholdsConfig;
    };
  };
  transformations?: ({ id: 'merge'; options: Record<string, never> } | Organize)[];
}

export interface Panels {
  row: Json<raw.RowPanel>;
  stat: Json<Panel<'stat', stat.Options, Record<string, never>>>;
  timeseries: Json<Panel<'timeseries', timeseries.Options, timeseries.FieldConfig>>;
  table: Json<Panel<'table', table.Options, table.FieldConfig>>;
  heatmap: Json<Panel<'heatmap', heatmap.Options, heatmap.FieldConfig>>;
}

export type Dashboard = Json<
  Omit<raw.Dashboard, 'panels' | 'annotations' | 'templating'> & {
    annotations: { list: AnnotationQuery<PromQuery>[] };
    templating: { list: VariableModel[] };
  }
>;
