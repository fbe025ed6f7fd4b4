//! The errors of the keys of rules, packets and profiles, each with `⟦` before its place, a part of the message and a
//! part of the help.

/// Lines of a rule that allows.
pub const RULES: &[(&str, &str, &str)] = &[
    // Keys that come later.
    (
        r#"app = ⟦"irk""#,
        "\"irk\" is not an application that is known",
        "did you mean \"irc\"?",
    ),
    (
        "proto = \"gre\"\napp = ⟦\"irc\"",
        "`app` with a protocol whose payload is not looked at",
        "leave `proto` out",
    ),
    (
        "proto = \"icmp\"\nicmp_type = 8\napp = ⟦\"irc\"",
        "`app` with an ICMP type or code",
        "take `app` out",
    ),
    (
        r#"app = ⟦["irc", "!irc"]"#,
        "`app` leaves nothing over",
        "left out",
    ),
    (
        r#"⟦dst_mac = "52:54:00:12:34:56""#,
        "this version does not have `dst_mac`",
        "take `dst_mac` out",
    ),
    // Negation.
    (
        r#"proto = ["tcp", ⟦"!upd"]"#,
        "there is no protocol \"upd\"",
        "did you mean \"udp\"?",
    ),
    (
        r#"proto = ⟦["tcp", "!tcp"]"#,
        "`proto` leaves nothing over",
        "better left out",
    ),
    (
        r#"proto = ⟦true"#,
        "`proto` must be a name or a number",
        "a number from 0 to 255",
    ),
    (
        r#"proto = [6, ⟦"!256"]"#,
        "there is no protocol \"256\"",
        "from 0 to 255",
    ),
    (
        r#"dport = ⟦"!""#,
        "neither a number nor a range",
        "with `!` before it",
    ),
    (
        r#"dport = [25, ⟦"!!25"]"#,
        "neither a number nor a range",
        "from 0 to 65535",
    ),
    (
        r#"dport = ⟦["20-30", "!0-100"]"#,
        "`dport` leaves nothing over",
        "better left out",
    ),
    (
        r#"dport = ⟦"+25""#,
        "neither a number nor a range",
        "from 0 to 65535",
    ),
    (
        r#"sport = [⟦1.5]"#,
        "neither a number nor a range",
        "from 0 to 65535",
    ),
    (
        "proto = [\"!tcp\", \"!udp\", \"!dccp\", \"!sctp\", \"!udplite\"]\ndport = ⟦\"!25\"",
        "a protocol that has no ports",
        "without `proto`",
    ),
    // ICMP types.
    (
        "proto = \"icmp\"\nicmp_type = ⟦\"echo-requset\"",
        "there is no ICMP type \"echo-requset\"",
        "did you mean \"echo-request\"?",
    ),
    (
        "proto = \"icmp\"\nicmp_type = ⟦\"packet-too-big\"",
        "ICMP has no type \"packet-too-big\"",
        "`icmp_code = 4`",
    ),
    (
        "proto = \"icmpv6\"\nicmp_type = [1, ⟦\"source-quench\"]",
        "ICMPv6 has no type",
        "a type of ICMP",
    ),
    (
        r#"icmp_type = ⟦"pong""#,
        "there is no ICMP type \"pong\"",
        "a name such as \"echo-request\"",
    ),
    (
        r#"icmp_type = ⟦["echo-request", 8]"#,
        "needs one ICMP protocol",
        "names of types do for both",
    ),
    (
        r#"icmp_type = ⟦"8""#,
        "needs one ICMP protocol",
        "names of types do for both",
    ),
    (
        "proto = [\"icmp\", \"icmpv6\"]\nicmp_code = ⟦0",
        "`icmp_code` needs one ICMP protocol",
        "other things in each",
    ),
    (
        "proto = \"tcp\"\nicmp_type = ⟦\"redirect\"",
        "`icmp_type` needs one ICMP protocol",
        "add `proto = \"icmp\"`",
    ),
    (
        "proto = \"icmp\"\nicmp_type = ⟦\"8-300\"",
        "neither a number nor a range",
        "from 0 to 255",
    ),
    (
        "icmp_type = \"redirect\"\ndport = ⟦80",
        "`dport` with a protocol that has no ports",
        "a port means both",
    ),
    (
        "icmp_type = \"redirect\"\ntcp_flags = ⟦\"syn\"",
        "`tcp_flags` with an ICMP type or code",
        "flags are of TCP",
    ),
    // TCP flags.
    (
        r#"tcp_flags = ⟦"sny""#,
        "there is no TCP flag \"sny\"",
        "did you mean \"syn\"?",
    ),
    (
        r#"tcp_flags = ⟦"established""#,
        "there is no TCP flag",
        "the flags are fin, syn, rst, psh, ack, urg, ece, cwr",
    ),
    (
        r#"tcp_flags = ["syn", ⟦""]"#,
        "there is no TCP flag \"\"",
        "write them as in \"syn,!ack\"",
    ),
    (
        r#"tcp_flags = ⟦"ack,!ack""#,
        "\"ack,!ack\" can never hold",
        "alternatives stand in a list",
    ),
    (
        r#"tcp_flags = ⟦2"#,
        "`tcp_flags` must be a string in quotes",
        "write a string",
    ),
    (
        r#"tcp_flags = ⟦[]"#,
        "`tcp_flags` is an empty list",
        "leave `tcp_flags` out",
    ),
    (
        "proto = \"udp\"\ntcp_flags = ⟦\"syn\"",
        "`tcp_flags` with a protocol that has none",
        "flags mean TCP",
    ),
    (
        "proto = [\"tcp\", \"udp\"]\ntcp_flags = ⟦\"syn\"",
        "`tcp_flags` with a protocol that has none",
        "flags mean TCP",
    ),
    (
        r#"fragment = ⟦"yes""#,
        "`fragment` must be true or false",
        "write true or false",
    ),
    // The link layer.
    (
        r#"ethertype = ⟦"apr""#,
        "there is no ethertype \"apr\"",
        "did you mean \"arp\"?",
    ),
    (
        r#"ethertype = ["arp", ⟦0x05ff]"#,
        "0x05ff is not an ethertype",
        "802.3 frame with LLC, which no rule can name",
    ),
    (
        r#"ethertype = ⟦"0x0000-0xffff""#,
        "0x0000 is not an ethertype",
        "spanning tree passes",
    ),
    (
        r#"ethertype = ⟦0x10000"#,
        "neither a name nor a number",
        "from 0x0600 to 0xffff",
    ),
    (
        r#"ethertype = ⟦"0x88zz""#,
        "there is no ethertype \"0x88zz\"",
        "from 0x0600 to 0xffff",
    ),
    (
        r#"ethertype = ⟦true"#,
        "neither a name nor a number",
        "a name such as \"arp\"",
    ),
    (
        r#"ethertype = ⟦"0x8100""#,
        "0x8100 is a VLAN tag",
        "match on `vlan`",
    ),
    (
        r#"ethertype = ⟦["arp", "!0x0800-0xffff"]"#,
        "`ethertype` leaves nothing over",
        "better left out",
    ),
    (
        "ethertype = ⟦\"arp\"\nsrc = \"10.0.0.1\"",
        "names frames that are not IP, and `src` is a field of IP",
        "take `src` out",
    ),
    (
        "ethertype = ⟦\"!ipv6\"\ndport = 25",
        "names frames that are not IP, and `dport` is a field of IP",
        "name only \"ipv4\" and \"ipv6\"",
    ),
    (
        "ethertype = ⟦[\"ipv4\", \"ptp\"]\nproto = \"udp\"",
        "`proto` is a field of IP: they have none",
        "two rules say both",
    ),
    (
        "ethertype = ⟦\"lldp\"\nfragment = true",
        "`fragment` is a field of IP",
        "take `fragment` out",
    ),
    (
        "ethertype = ⟦\"eapol\"\ntcp_flags = \"syn\"",
        "`tcp_flags` is a field of IP",
        "take `tcp_flags` out",
    ),
    (
        r#"vlan = ⟦4096"#,
        "neither a number nor a range",
        "an id from 0 to 4095",
    ),
    (
        r#"vlan = [10, ⟦"untagged"]"#,
        "`vlan` has something",
        "\"none\" for untagged frames",
    ),
    (
        r#"vlan = ⟦["none", "!none"]"#,
        "`vlan` leaves nothing over",
        "better left out",
    ),
    (
        r#"src_mac = ⟦"52:54:00:12:34""#,
        "\"52:54:00:12:34\" is not a MAC address",
        "six bytes in hex",
    ),
    (
        r#"src_mac = ["52:54:00:12:34:56", ⟦7]"#,
        "`src_mac` must be a string in quotes",
        "write a string",
    ),
    (
        r#"src_mac = ⟦["52:54:00:12:34:56", "!52-54-00-12-34-56"]"#,
        "`src_mac` leaves nothing over",
        "better left out",
    ),
    // What a rule does over time.
    (
        r#"limit = ⟦"100""#,
        "`limit` cannot be \"100\"",
        "\"100/s\", \"10/m\", \"1000/h\"",
    ),
    (
        r#"limit = ⟦"0/s""#,
        "`limit` cannot be \"0/s\"",
        "write frames in a second",
    ),
    (
        r#"limit = ⟦"5/d""#,
        "`limit` cannot be \"5/d\"",
        "in a second, a minute or an hour",
    ),
    (
        r#"limit = ⟦"5000000000/s""#,
        "`limit` cannot be",
        "\"100/s\"",
    ),
    (
        r#"limit = ⟦100"#,
        "`limit` must be a string in quotes",
        "write a string",
    ),
    (
        r#"limit = ⟦{ burst = 5 }"#,
        "`limit` has no `rate`",
        "burst = 200",
    ),
    (
        r#"limit = { rate = "5/s", burst = ⟦0 }"#,
        "`burst` must be a number from 1",
        "write a number",
    ),
    (
        r#"limit = { rate = ⟦"fast" }"#,
        "`limit` cannot be \"fast\"",
        "\"100/s\"",
    ),
    (
        r#"limit = { ⟦rat = "5/s", rate = "5/s" }"#,
        "unknown key `rat` in limit",
        "did you mean `rate`?",
    ),
    (
        r#"ttl = ⟦"soon""#,
        "`ttl` cannot be \"soon\"",
        "a number and a unit",
    ),
    (
        r#"ttl = ⟦"0s""#,
        "`ttl` cannot be \"0s\"",
        "a number and a unit",
    ),
    (
        r#"ttl = ⟦"500000000000y""#,
        "`ttl` is longer than ten years",
        "leave `ttl` out",
    ),
    (
        r#"ttl = ⟦2"#,
        "`ttl` must be a string in quotes",
        "write a string",
    ),
    (
        r#"shadow = ⟦1"#,
        "`shadow` must be true or false",
        "write true or false",
    ),
];

/// The fields of a test packet.
pub const PACKETS: &[(&str, &str, &str)] = &[
    (
        r#"app = ⟦"irc", proto = "gre", src = "1.1.1.1", dst = "1.1.1.2""#,
        "the payload of this protocol is not looked at",
        "take it out",
    ),
    (
        r#"app = ⟦"gopher", proto = "tcp", src = "1.1.1.1:1", dst = "1.1.1.2:70""#,
        "\"gopher\" is not an application that is known",
        "write one of irc, smtp, tftp",
    ),
    (
        r#"ethertype = "arp", src = ⟦"1.1.1.1""#,
        "is not IP has no `src`",
        "take `src` out",
    ),
    (
        r#"ethertype = "arp", fragment = ⟦true"#,
        "is not IP has no `fragment`",
        "take `fragment` out",
    ),
    (
        r#"ethertype = ⟦"arp-lldp""#,
        "there is no ethertype",
        "a name such as \"arp\"",
    ),
    (
        r#"ethertype = ⟦"0x88f7-0x88f8""#,
        "a packet has one ethertype",
        "or one number",
    ),
    (
        r#"ethertype = ⟦1536.0"#,
        "`ethertype` must be a string",
        "write a string",
    ),
    (
        r#"ethertype = ⟦"ipv6", proto = "gre", src = "1.1.1.1", dst = "1.1.1.2""#,
        "of two families",
        "the addresses say it",
    ),
    (
        r#"ethertype = "ipv4", src = "1.1.1.1", dst = "1.1.1.2""#,
        "there is no protocol \"\"",
        "a name such as",
    ),
    (
        r#"vlan = ⟦4096, proto = "gre", src = "1.1.1.1", dst = "1.1.1.2""#,
        "`vlan` must be a number from 0 to 4095",
        "write a number",
    ),
    (
        r#"vlan = ⟦"10", proto = "gre", src = "1.1.1.1", dst = "1.1.1.2""#,
        "`vlan` of a packet is one id or \"none\"",
        "from 0 to 4095",
    ),
    (
        r#"src_mac = ⟦"x", proto = "gre", src = "1.1.1.1", dst = "1.1.1.2""#,
        "is not a MAC address",
        "six bytes",
    ),
    (
        r#"tcp_flags = ⟦"syn,akc", proto = "tcp", src = "1.1.1.1:1", dst = "1.1.1.2:1""#,
        "there is no TCP flag \"akc\"",
        "did you mean \"ack\"?",
    ),
    (
        r#"tcp_flags = ⟦"syn", proto = "udp", src = "1.1.1.1:1", dst = "1.1.1.2:1""#,
        "this protocol has no `tcp_flags`",
        "take them out",
    ),
    (
        r#"icmp_type = ⟦8, proto = "udp", src = "1.1.1.1:1", dst = "1.1.1.2:1""#,
        "this protocol has no `icmp_type`",
        "`proto = \"icmp\"`",
    ),
    (
        r#"icmp_type = ⟦"packet-too-big", proto = "icmp", src = "1.1.1.1", dst = "1.1.1.2""#,
        "ICMP has no type",
        "`icmp_code = 4`",
    ),
    (
        r#"icmp_code = ⟦256, proto = "icmp", src = "1.1.1.1", dst = "1.1.1.2""#,
        "from 0 to 255",
        "from 0 to 255",
    ),
    (
        r#"proto = ⟦"tpc", src = "1.1.1.1:1", dst = "1.1.1.2:1""#,
        "there is no protocol \"tpc\"",
        "did you mean \"tcp\"?",
    ),
    (
        r#"proto = ⟦256, src = "1.1.1.1", dst = "1.1.1.2""#,
        "there is no protocol \"256\"",
        "from 0 to 255",
    ),
    (
        r#"proto = ⟦"icmp", src = "::1", dst = "::2""#,
        "ICMP goes over IPv4",
        "with IPv6 addresses",
    ),
];

/// Whole configs: profiles, and limits of built-in rules.
pub const CONFIGS: &[(&str, &str, &str)] = &[
    (
        "[policy]\nprofile = ⟦\"strickt\"\n",
        "`profile` cannot be \"strickt\"",
        "did you mean \"strict\"?",
    ),
    (
        "[policy]\nprofile = \"strict\"\nquic = ⟦\"yes\"\n",
        "`quic` must be true or false",
        "write true or false",
    ),
    (
        "[policy]\nprofile = \"strict\"\ntcp_ports = [80, ⟦\"https\"]\n",
        "`tcp_ports` has something",
        "from 0 to 65535",
    ),
    (
        "[policy]\nshadow = ⟦\"on\"\n",
        "`shadow` must be true or false",
        "write true or false",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nlimit = ⟦\"5/s\"\n",
        "the rule `a` drops, and a limit on that would let the rest through",
        "change the action, or take `limit` out",
    ),
    (
        "[[rule]]\nname = \"smb\"\nlimit = ⟦\"5/s\"\n",
        "the rule `smb` drops",
        "how often a \"reject\" answers",
    ),
    (
        "[[rule]]\nname = ⟦\"spoofed-source\"\nenabled = true\n",
        "cannot be on without the prefixes of the LAN",
        "fill `prefixes` of [lan]",
    ),
    (
        "[[rule]]\nname = ⟦\"strict-tcp\"\nenabled = true\n",
        "`strict-tcp` cannot be on without ports",
        "add `tcp_ports = [80, 443]`",
    ),
    (
        "[[rule]]\nname = ⟦\"strict-deni\"\n",
        "the rule `strict-deni` has no action",
        "did you mean the built-in rule `strict-deny`?",
    ),
];
